import Foundation

/// Normalizes a text like CLIP's tokenizer: to composed characters (NFC), and then each of them to lower case.
///
/// Unlike `lowercased(_: String)`, this has no special case for a sigma at the end of a word.
func clipNormalized(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    let composed = String(String.UnicodeScalarView(text)).precomposedStringWithCanonicalMapping
    return composed.unicodeScalars.flatMap { lowercased($0) }
}

/// Splits a normalized text into words like the two regular expressions of CLIP's tokenizer.
///
/// A word is a contraction such as "'s", a run of letters, a single number, or a run of other characters. Whitespace
/// separates words. The names of the special tokens, where they are ordinary text, end a run of other characters.
func clipWords(_ text: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
    var words: [[Unicode.Scalar]] = []
    var rest = text[...]
    while let first = rest.first {
        let kind = Kind(first)
        let literal = kind == .other ? literals.first(where: { rest.starts(with: $0.joined()) }) : nil
        if let literal {
            words += literal
            rest = rest.dropFirst(literal.joined().count)
        } else {
            let word = kind == .number ? rest.prefix(1) : rest.prefix { Kind($0) == kind }
            if kind != .space { words.append(Array(word)) }
            rest = rest.dropFirst(word.count)
        }
    }
    return words
}

/// Character sequences that are not split like other text, each with the words into which it is split.
private let literals: [[[Unicode.Scalar]]] = {
    let special: [[String]] = [["<|", "startoftext", "|>"], ["<|", "endoftext", "|>"]]
    let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { [$0] }
    return (special + contractions).map { words in words.map { Array($0.unicodeScalars) } }
}()

private enum Kind {
    case space, letter, number, other

    init(_ scalar: Unicode.Scalar) {
        if isLetter(scalar) {
            self = .letter
        } else if scalar.properties.isWhitespace {
            self = .space
        } else {
            switch scalar.properties.generalCategory {
            case .decimalNumber, .letterNumber, .otherNumber: self = .number
            default: self = .other
            }
        }
    }
}
