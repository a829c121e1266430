import Foundation

/// The parts of `manifest.json` that an app reads (platform/pocketdit/export/app/manifest.schema.json).
///
/// Read a manifest with `init(bundle:)`, which also checks it.
public struct Manifest: Decodable, Sendable {
    public struct Image: Decodable, Sendable {
        public let height, width: Int
    }
    public struct Latents: Decodable, Sendable {
        public let channels, height, width: Int
    }
    public struct TensorType: Decodable, Sendable {
        public let shape: [Int]
        public let dtype: String
    }
    public struct Package: Decodable, Sendable {
        public let file: String
        public let inputs, outputs: [String: TensorType]
    }
    public struct Sampling: Decodable, Sendable {
        public let sampler: Sampler
        public let steps: Int
        public let times: [Double]
        public let timeShift: Double
        public let guidance: Double
        /// Whether the network only works with `steps` steps.
        public let fixedSteps: Bool

        enum CodingKeys: String, CodingKey {
            case sampler, steps, times, guidance
            case timeShift = "time_shift"
            case fixedSteps = "fixed_steps"
        }
    }
    public struct Noise: Decodable, Sendable {
        public let generator: String
    }
    public struct Encoder: Decodable, Sendable {
        public let tokens, width: Int
        /// Name of the encoder's package, or nil if the bundle does not contain the encoder.
        public let package: String?
        public let tokenizer: Tokenizer?
    }
    public struct Text: Decodable, Sendable {
        public let encoders: [Encoder]
    }

    public static let format = 2

    public let format: Int
    public let kind: String
    public let image: Image
    public let latents: Latents
    public let packages: [String: Package]
    public let sampling: Sampling
    public let noise: Noise
    public let text: Text

    /// Reads and checks the manifest of a bundle.
    ///
    /// Throws a `BundleError` if the format is unknown, or if the manifest is damaged or contradicts itself.
    public init(bundle: URL) throws {
        struct Version: Decodable {
            let format: Int
        }
        let content = try contents(of: bundle.appendingPathComponent(Manifest.file))
        let found = try decoded(Version.self, from: content, file: Manifest.file).format
        guard found == Manifest.format else { throw BundleError.unknownFormat(found) }
        self = try decoded(Manifest.self, from: content, file: Manifest.file)
        try check()
    }

    static let file = "manifest.json"
}

/// The tokenizer of a text encoder, and its settings.
public enum Tokenizer: Decodable, Sendable {
    case hashedWords(width: Int)
    case hashedPhrases(width: Int)
    case wordPieces(file: String, pieces: Int)
    case clip(file: String, pad: Int32)

    enum CodingKeys: CodingKey {
        case kind, width, file, pieces, pad
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        switch try values.decode(String.self, forKey: .kind) {
        case "hashed_words":
            self = .hashedWords(width: try values.decode(Int.self, forKey: .width))
        case "hashed_phrases":
            self = .hashedPhrases(width: try values.decode(Int.self, forKey: .width))
        case "word_pieces":
            let file = try values.decode(String.self, forKey: .file)
            self = .wordPieces(file: file, pieces: try values.decode(Int.self, forKey: .pieces))
        case "clip":
            let file = try values.decode(String.self, forKey: .file)
            self = .clip(file: file, pad: try values.decode(Int32.self, forKey: .pad))
        case let kind:
            throw DecodingError.dataCorruptedError(
                forKey: .kind, in: values, debugDescription: "the kind \(kind) is unknown")
        }
    }
}
