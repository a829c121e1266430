import Foundation

/// An input or output of a package. Elements are in row-major order: the last axis varies fastest.
public struct Tensor {
    public var shape: [Int]
    public var floats: [Float]
    /// Token IDs. If this array is not empty, the tensor has the type int32, and `floats` is empty.
    public var ids: [Int32]

    public init(_ shape: [Int], _ floats: [Float]) {
        (self.shape, self.floats, ids) = (shape, floats, [])
    }

    public init(_ shape: [Int], ids: [Int32]) {
        (self.shape, floats, self.ids) = (shape, [], ids)
    }
}

/// Turns a prompt into the inputs of a text encoder's package, including its mask (1, L).
public func tokenize(_ prompt: String, encoder: Manifest.Encoder, bundle: URL) throws -> [String: Tensor] {
    guard let tokenizer = encoder.tokenizer else { throw BundleError.missing("tokenizer") }
    let length = encoder.tokens
    func file() throws -> URL {
        guard let name = tokenizer.file else { throw BundleError.missing("file") }
        return bundle.appendingPathComponent(name)
    }
    switch tokenizer.kind {
    case "hashed_words", "hashed_phrases":
        let words = Array(splitWords(prompt).prefix(length))
        let width = encoder.width
        let compute = tokenizer.kind == "hashed_words" ? hashedWords : hashedPhrases
        var vectors = compute(words, width).flatMap { $0 }
        vectors += [Float](repeating: 0, count: length * width - vectors.count)
        return ["vectors": Tensor([1, length, width], vectors), "mask": mask(words.count, length)]
    case "word_pieces":
        let pieces = tokenizer.pieces ?? 1
        let words = splitWords(prompt).prefix(length)
        let bpe = try BytePairs(file())
        var ids = [Int32](repeating: 0, count: length * pieces)
        var weights = [Float](repeating: 0, count: length * pieces)
        for (row, word) in words.enumerated() {
            let found = bpe.encodeWord(word).prefix(pieces)
            for (column, id) in found.enumerated() {
                ids[row * pieces + column] = id
                weights[row * pieces + column] = Float(1 / Double(found.count))
            }
        }
        let shape = [1, length, pieces]
        return ["ids": Tensor(shape, ids: ids), "weights": Tensor(shape, weights), "mask": mask(words.count, length)]
    case "clip":
        let found = try BytePairs(file()).encodeClip(prompt, limit: length)
        let padding = [Int32](repeating: Int32(tokenizer.pad ?? 0), count: length - found.count)
        let isEmpty = prompt.allSatisfy(\.isWhitespace)
        return ["ids": Tensor([1, length], ids: found + padding), "mask": mask(isEmpty ? 0 : found.count, length)]
    default:
        throw BundleError.unknownTokenizer(tokenizer.kind)
    }
}

func mask(_ visible: Int, _ length: Int) -> Tensor {
    Tensor([1, length], (0..<length).map { $0 < visible ? 1 : 0 })
}

/// Splits a prompt into lowercase words of letters and digits.
public func splitWords(_ prompt: String) -> [String] {
    var words: [String] = []
    var word = String.UnicodeScalarView()
    for scalar in prompt.lowercased().unicodeScalars {
        if isWordCharacter(scalar) {
            word.append(scalar)
        } else if !word.isEmpty {
            words.append(String(word))
            word = String.UnicodeScalarView()
        }
    }
    return word.isEmpty ? words : words + [String(word)]
}

private func isWordCharacter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
    default: return scalar.properties.numericType != nil
    }
}

/// Returns a vector of signs for a string: +1 for each bit of its SHAKE-256 hash that is 1, and -1 for all other bits.
func signs(_ text: String, _ width: Int) -> [Float] {
    let bytes = shake256(Array(text.utf8), count: (width + 7) / 8)
    return (0..<width).map { bytes[$0 / 8] >> UInt8(7 - $0 % 8) & 1 == 1 ? 1 : -1 }
}

func hashedWords(_ words: [String], _ width: Int) -> [[Float]] {
    words.map { signs($0, width) }
}

/// Returns a vector for each word: the weighted sum of the sign vectors of all phrases of one, two or three words that
/// contain the word. The squared weights of all phrases of the same length add up to a fixed share.
func hashedPhrases(_ words: [String], _ width: Int) -> [[Float]] {
    words.indices.map { at in
        var vector = [Float](repeating: 0, count: width)
        for (length, share) in [(1, 1.0 / 2), (2, 1.0 / 3), (3, 1.0 / 6)] {
            let starts = (at - length + 1...at).filter { $0 >= 0 && $0 + length <= words.count }
            for start in starts {
                let weight = Float((share / Double(starts.count)).squareRoot())
                let phrase = signs(words[start..<start + length].joined(separator: " "), width)
                vector = zip(vector, phrase).map { $0 + weight * $1 }
            }
        }
        return vector
    }
}
