import Foundation

/// Byte-pair encoding with a `tokenizer.json` file of the tokenizers library, for WordLlama (word pieces) or CLIP.
public struct BytePairs: Sendable {
    private let name: String
    /// IDs of all tokens, whose names are byte strings (see `TokenizerFile`).
    private let vocabulary: [String: Int32]
    private let unknown: Int32?
    private let merges: [Pair: Merge]
    private let added: [TokenizerFile.AddedToken]

    private struct Pair: Hashable, Sendable {
        let left, right: Int32
    }

    private struct Merge: Sendable {
        let rank: Int
        let id: Int32
    }

    public init(_ file: URL) throws {
        name = file.lastPathComponent
        let content = try TokenizerFile(file)
        vocabulary = content.model.vocab
        unknown = content.model.unknown.flatMap { content.model.vocab[$0] }
        added = content.added
        var merges: [Pair: Merge] = [:]
        for (rank, pair) in content.model.merges.enumerated() {
            guard pair.count == 2, let left = vocabulary[pair[0]], let right = vocabulary[pair[1]],
                let id = vocabulary[pair[0] + pair[1]]
            else { throw BundleError.damaged(file: name, problem: "model.merges.\(rank): is not in the vocabulary") }
            merges[Pair(left: left, right: right)] = Merge(rank: rank, id: id)
        }
        self.merges = merges
        if let token = added.first(where: { $0.content.isEmpty || $0.hasOptions }) {
            throw BundleError.damaged(file: name, problem: "added_tokens: token \(token.id) has an unknown option")
        }
    }

    /// Repeatedly merges the neighboring pairs of tokens with the lowest rank, until no pair has a rank.
    private func merged(_ start: [Int32]) -> [Int32] {
        var ids = start
        while true {
            let known = zip(ids, ids.dropFirst()).compactMap { merges[Pair(left: $0, right: $1)] }
            guard let best = known.min(by: { $0.rank < $1.rank }) else { return ids }
            var result: [Int32] = []
            var at = 0
            while at < ids.count {
                let merge = at + 1 < ids.count ? merges[Pair(left: ids[at], right: ids[at + 1])] : nil
                let isBest = merge?.rank == best.rank
                result.append(isBest ? best.id : ids[at])
                at += isBest ? 2 : 1
            }
            ids = result
        }
    }

    /// Encodes a word with WordLlama's tokenizer. Unknown characters become the tokens of their UTF-8 bytes.
    public func encodeWord(_ word: String) -> [Int32] {
        let ids = "\u{2581}\(word)".unicodeScalars.flatMap { scalar -> [Int32?] in
            let symbol = String(scalar)
            if let id = vocabulary[byteString(symbol)] { return [id] }
            return symbol.utf8.map { vocabulary["<0x\(hexadecimal($0))>"] ?? unknown }
        }
        return merged(ids.compactMap { $0 })
    }

    /// Encodes a prompt with CLIP's tokenizer, with start and end tokens. At most `limit` tokens remain.
    public func encodeClip(_ prompt: String, limit: Int) throws -> [Int32] {
        guard let start = vocabulary["<|startoftext|>"], let end = vocabulary["<|endoftext|>"] else {
            throw BundleError.damaged(file: name, problem: "model.vocab: has no start and end tokens")
        }
        guard limit >= 2 else {
            throw BundleError.invalidArgument("limit: \(limit) leaves no room for start and end tokens")
        }
        let raw = added.filter { !$0.normalized }, normalized = added.filter { $0.normalized }
        let ids = separated(Array(prompt.unicodeScalars), raw) { text in
            separated(clipNormalized(text), normalized) { clipWords($0).flatMap(encodeClipWord) }
        }
        return [start] + ids.prefix(limit - 2) + [end]
    }

    private func encodeClipWord(_ word: [Unicode.Scalar]) -> [Int32] {
        var symbols = String(String.UnicodeScalarView(word)).utf8.map { byteSymbols[Int($0)] }
        symbols[symbols.count - 1] += "</w>"
        return merged(symbols.compactMap { vocabulary[$0] ?? unknown })
    }

    /// Encodes a text that may contain added tokens, such as "<|endoftext|>". `encode` encodes what is between them.
    private func separated(
        _ text: [Unicode.Scalar], _ tokens: [TokenizerFile.AddedToken], _ encode: ([Unicode.Scalar]) -> [Int32]
    ) -> [Int32] {
        var ids: [Int32] = []
        var pending: [Unicode.Scalar] = []
        var rest = text[...]
        while let first = rest.first {
            let matches = tokens.filter { rest.starts(with: $0.content) }
            if let token = matches.max(by: { $0.content.count < $1.content.count }) {
                ids += encode(pending) + [token.id]
                pending = []
                rest = rest.dropFirst(token.content.count)
            } else {
                pending.append(first)
                rest = rest.dropFirst()
            }
        }
        return ids + encode(pending)
    }
}
