/// Splits a prompt into lowercase words of letters and digits, like platform/pocketdit/encoders/word_tokens.py.
public func splitWords(_ prompt: String) -> [String] {
    lowercased(prompt).split { !isWordCharacter($0) }.map { String(String.UnicodeScalarView($0)) }
}

/// Returns whether a prompt has no text: it is empty, or contains only what Python's `str.strip` removes.
func isEmpty(_ prompt: String) -> Bool {
    prompt.unicodeScalars.allSatisfy { $0.properties.isWhitespace || 0x1C...0x1F ~= $0.value }
}

/// Converts a text to lower case like Python's `str.lower`: a capital sigma at the end of a word becomes a final sigma.
func lowercased(_ text: String) -> [Unicode.Scalar] {
    let scalars = Array(text.unicodeScalars)
    return scalars.indices.flatMap { at -> [Unicode.Scalar] in
        if scalars[at] == "\u{3A3}" { return [isFinal(at, scalars) ? "\u{3C2}" : "\u{3C3}"] }
        return lowercased(scalars[at])
    }
}

/// Converts a character to lower case regardless of its neighbors. The result may have several scalars.
func lowercased(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
    Array(scalar.properties.lowercaseMapping.unicodeScalars)
}

/// Returns whether the character at an index is the last letter of a word (Unicode's condition Final_Sigma).
private func isFinal(_ at: Int, _ scalars: [Unicode.Scalar]) -> Bool {
    let before = scalars[..<at].last { !$0.properties.isCaseIgnorable }
    let after = scalars[(at + 1)...].first { !$0.properties.isCaseIgnorable }
    return before?.properties.isCased == true && after?.properties.isCased != true
}

private func isWordCharacter(_ scalar: Unicode.Scalar) -> Bool {
    isLetter(scalar) || scalar.properties.numericType != nil
}

func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
    default: return false
    }
}
