import Foundation

/// The parts of `manifest.json` that an app reads (platform/pocketdit/export/app/manifest.schema.json).
public struct Manifest: Decodable {
    public struct Image: Decodable {
        public let height, width: Int
    }
    public struct Latents: Decodable {
        public let channels, height, width: Int
    }
    public struct TensorType: Decodable {
        public let shape: [Int]
        public let dtype: String
    }
    public struct Package: Decodable {
        public let file: String
        public let inputs, outputs: [String: TensorType]
    }
    public struct Sampling: Decodable {
        public let sampler: String
        public let steps: Int
        public let times: [Double]
        public let guidance: Double
        public let fixedSteps: Bool

        enum CodingKeys: String, CodingKey {
            case sampler, steps, times, guidance
            case fixedSteps = "fixed_steps"
        }
    }
    public struct Noise: Decodable {
        public let generator: String
    }
    public struct Tokenizer: Decodable {
        public let kind: String
        public let width: Int?
        public let pieces: Int?
        public let pad: Int?
        public let file: String?
    }
    public struct Encoder: Decodable {
        public let tokens, width: Int
        public let package: String?
        public let tokenizer: Tokenizer?
    }
    public struct Text: Decodable {
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

    /// Reads the manifest of a bundle. Throws an error if the format or the noise generator is unknown.
    public init(bundle: URL) throws {
        struct Version: Decodable {
            let format: Int
        }
        let content = try Data(contentsOf: bundle.appendingPathComponent("manifest.json"))
        let found = try JSONDecoder().decode(Version.self, from: content).format
        guard found == Manifest.format else { throw BundleError.unknownFormat(found) }
        self = try JSONDecoder().decode(Manifest.self, from: content)
        guard noise.generator == PortableNoise.name else { throw BundleError.unknownGenerator(noise.generator) }
    }
}

public enum BundleError: Error {
    case unknownFormat(Int)
    case unknownGenerator(String)
    case unknownSampler(String)
    case unknownTokenizer(String)
    case missing(String)
}
