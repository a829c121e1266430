import Foundation

/// The parts of a `tokenizer.json` file that byte-pair encoding needs.
///
/// Swift considers strings equal if they are canonically equivalent, such as U+03AC and U+1F71 (alpha with an accent),
/// which are different tokens of WordLlama. Therefore, the strings of a vocabulary are stored as byte strings, which
/// have one scalar per UTF-8 byte (see `byteString`) and are equal only if all bytes are.
struct TokenizerFile: Decodable {
    struct Model: Decodable {
        let vocab: [String: Int32]
        let merges: [[String]]
        let unknown: String?

        enum CodingKeys: String, CodingKey {
            case vocab, merges
            case unknown = "unk_token"
        }

        init(from decoder: any Decoder) throws {
            let values = try decoder.container(keyedBy: CodingKeys.self)
            vocab = try values.decode([String: Int32].self, forKey: .vocab)
            unknown = try values.decodeIfPresent(String.self, forKey: .unknown)
            // Older files store a merge as "left right", newer ones as [left, right].
            if let pairs = try? values.decode([[String]].self, forKey: .merges) {
                merges = pairs
            } else {
                merges = try values.decode([String].self, forKey: .merges).map { $0.components(separatedBy: " ") }
            }
        }
    }

    /// A token that is found in a text before (`normalized` is false) or after the text is normalized.
    struct AddedToken: Decodable, Sendable {
        let id: Int32
        let content: [Unicode.Scalar]
        let normalized: Bool
        /// Whether the token has options that this package does not implement.
        let hasOptions: Bool

        enum CodingKeys: String, CodingKey {
            case id, content, normalized, lstrip, rstrip
            case singleWord = "single_word"
        }

        init(from decoder: any Decoder) throws {
            let values = try decoder.container(keyedBy: CodingKeys.self)
            id = try values.decode(Int32.self, forKey: .id)
            let bytes = try values.decode(String.self, forKey: .content).unicodeScalars
            let text = String(decoding: bytes.map { UInt8(truncatingIfNeeded: $0.value) }, as: UTF8.self)
            content = Array(text.unicodeScalars)
            normalized = try values.decode(Bool.self, forKey: .normalized)
            let options: [CodingKeys] = [.lstrip, .rstrip, .singleWord]
            hasOptions = try options.contains { try values.decode(Bool.self, forKey: $0) }
        }
    }

    let model: Model
    let added: [AddedToken]

    enum CodingKeys: String, CodingKey {
        case model
        case added = "added_tokens"
    }

    init(_ file: URL) throws {
        // The tokenizers library writes characters beyond ASCII as they are. Each of their bytes becomes an escape.
        var escaped = Data()
        for byte in try contents(of: file) {
            if byte < 0x80 {
                escaped.append(byte)
            } else {
                escaped.append(contentsOf: "\\u00\(hexadecimal(byte))".utf8)
            }
        }
        self = try decoded(TokenizerFile.self, from: escaped, file: file.lastPathComponent)
        let areBytes = model.vocab.keys.allSatisfy { token in token.unicodeScalars.allSatisfy { $0.value < 256 } }
        guard areBytes else {
            throw BundleError.damaged(
                file: file.lastPathComponent, problem: "model.vocab: contains escapes of characters beyond ASCII")
        }
    }
}

/// Returns a string that has one scalar for each UTF-8 byte of a text.
func byteString(_ text: String) -> String {
    String(String.UnicodeScalarView(text.utf8.map { Unicode.Scalar($0) }))
}

/// Returns the two hexadecimal digits of a byte.
func hexadecimal(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return digits.count == 1 ? "0" + digits : digits
}

/// The printable characters that represent the 256 bytes in the vocabularies of GPT-2 and CLIP, as byte strings.
let byteSymbols: [String] = {
    let printable = Set(33...126).union(161...172).union(174...255)
    var hidden: UInt32 = 256
    return (0...255).map { byte -> String in
        if printable.contains(byte) { return byteString(String(Unicode.Scalar(UInt8(byte)))) }
        defer { hidden += 1 }
        return byteString(Unicode.Scalar(hidden).map { String($0) } ?? "")
    }
}()
