import Foundation

/// Byte-pair encoding with a `tokenizer.json` file of the tokenizers library, for WordLlama (word pieces) or CLIP.
public struct BytePairs {
    private let vocabulary: [String: Int32]
    private let ranks: [String: Int]

    public init(_ file: URL) throws {
        let content = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
        guard let model = content?["model"] as? [String: Any], let vocabulary = model["vocab"] as? [String: Int],
            let merges = model["merges"] as? [Any]
        else { throw BundleError.missing("model in \(file.lastPathComponent)") }
        self.vocabulary = vocabulary.mapValues(Int32.init)
        // Older files store a merge as "left right", newer ones as [left, right].
        let pairs = merges.map { ($0 as? [String])?.joined(separator: " ") ?? $0 as? String ?? "" }
        ranks = Dictionary(pairs.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Repeatedly merges the neighboring pair of symbols with the lowest rank, until no pair has a rank.
    private func merged(_ start: [String]) -> [String] {
        var symbols = start
        while symbols.count > 1 {
            var best: (rank: Int, at: Int)?
            for at in 0..<symbols.count - 1 {
                if let rank = ranks["\(symbols[at]) \(symbols[at + 1])"], rank < best?.rank ?? Int.max {
                    best = (rank, at)
                }
            }
            guard let best else { break }
            symbols.replaceSubrange(best.at...best.at + 1, with: [symbols[best.at] + symbols[best.at + 1]])
        }
        return symbols
    }

    /// Encodes a word with WordLlama's tokenizer. Unknown characters become the tokens of their UTF-8 bytes.
    public func encodeWord(_ word: String) -> [Int32] {
        let symbols = "\u{2581}\(word)".unicodeScalars.flatMap { scalar -> [String] in
            let symbol = String(scalar)
            if vocabulary[symbol] != nil { return [symbol] }
            return symbol.utf8.map { "<0x" + hexadecimal($0) + ">" }
        }
        return merged(symbols).compactMap { vocabulary[$0] }
    }

    /// Encodes a prompt with CLIP's tokenizer, with start and end tokens. At most `limit` tokens remain.
    public func encodeClip(_ prompt: String, limit: Int) throws -> [Int32] {
        guard let start = vocabulary["<|startoftext|>"], let end = vocabulary["<|endoftext|>"] else {
            throw BundleError.missing("start and end tokens")
        }
        let pattern = #"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"#
        let text = prompt.precomposedStringWithCanonicalMapping.lowercased()
        let expression = try NSRegularExpression(pattern: pattern)
        let matches = expression.matches(in: text, range: NSRange(text.startIndex..., in: text))
        let ids = matches.flatMap { match -> [Int32] in
            guard let range = Range(match.range, in: text) else { return [] }
            var symbols = text[range].utf8.map(byteSymbol)
            symbols[symbols.count - 1] += "</w>"
            return merged(symbols).compactMap { vocabulary[$0] }
        }
        return [start] + ids.prefix(limit - 2) + [end]
    }

    private func hexadecimal(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return digits.count == 1 ? "0" + digits : digits
    }

    /// Returns the printable character that represents a byte in the vocabularies of GPT-2 and CLIP.
    private func byteSymbol(_ byte: UInt8) -> String {
        let printable: [ClosedRange<Int>] = [33...126, 161...172, 174...255]
        let value = Int(byte)
        if printable.contains(where: { $0.contains(value) }) { return String(Unicode.Scalar(byte)) }
        let hidden = (0..<value).filter { other in !printable.contains { $0.contains(other) } }.count
        return String(Unicode.Scalar(UInt32(256 + hidden))!)
    }
}
