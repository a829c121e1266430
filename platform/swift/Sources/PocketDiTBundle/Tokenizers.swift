import Foundation

/// An input or output of a package. Elements are in row-major order: the last axis varies fastest.
public struct Tensor: Sendable {
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

/// A text encoder's tokenizer, which turns prompts into the inputs of the encoder's package.
public struct PromptTokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let length: Int
    private let bytePairs: BytePairs?

    /// Reads the file of the tokenizer if it has one.
    public init(_ encoder: Manifest.Encoder, bundle: URL) throws {
        guard let tokenizer = encoder.tokenizer else {
            throw BundleError.incomplete("text.encoders: a text encoder is not in the bundle, so it has no tokenizer")
        }
        (self.tokenizer, length) = (tokenizer, encoder.tokens)
        switch tokenizer {
        case .hashedWords, .hashedPhrases: bytePairs = nil
        case .wordPieces(let file, _), .clip(let file, _):
            bytePairs = try BytePairs(bundle.appendingPathComponent(file))
        }
    }

    /// Turns a prompt into the inputs of the text encoder's package, including its mask (1, L).
    public func tokenize(_ prompt: String) throws -> [String: Tensor] {
        switch tokenizer {
        case .hashedWords(let width):
            return padded(hashedWords(words(prompt), width), width)
        case .hashedPhrases(let width):
            return padded(hashedPhrases(words(prompt), width), width)
        case .wordPieces(_, let pieces):
            return wordPieces(words(prompt).map { bytePairs?.encodeWord($0) ?? [] }, pieces)
        case .clip(_, let pad):
            let found = try bytePairs?.encodeClip(prompt, limit: length) ?? []
            let padding = [Int32](repeating: pad, count: length - found.count)
            return ["ids": Tensor([1, length], ids: found + padding), "mask": mask(isEmpty(prompt) ? 0 : found.count)]
        }
    }

    private func words(_ prompt: String) -> [String] {
        Array(splitWords(prompt).prefix(length))
    }

    /// Pads the vectors of words with zeros to (1, L, width).
    private func padded(_ vectors: [[Float]], _ width: Int) -> [String: Tensor] {
        let padding = [Float](repeating: 0, count: (length - vectors.count) * width)
        let tensor = Tensor([1, length, width], vectors.flatMap { $0 } + padding)
        return ["vectors": tensor, "mask": mask(vectors.count)]
    }

    /// Returns the IDs of the first `pieces` tokens of each word, and their weights in the word's mean.
    private func wordPieces(_ words: [[Int32]], _ pieces: Int) -> [String: Tensor] {
        var ids = [Int32](repeating: 0, count: length * pieces)
        var weights = [Float](repeating: 0, count: length * pieces)
        for (row, word) in words.enumerated() {
            let kept = word.prefix(pieces)
            for (column, id) in kept.enumerated() {
                ids[row * pieces + column] = id
                weights[row * pieces + column] = Float(1 / Double(kept.count))
            }
        }
        let shape = [1, length, pieces]
        return ["ids": Tensor(shape, ids: ids), "weights": Tensor(shape, weights), "mask": mask(words.count)]
    }

    private func mask(_ visible: Int) -> Tensor {
        Tensor([1, length], (0..<length).map { $0 < visible ? 1 : 0 })
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
