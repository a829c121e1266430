"""Export to Core ML packages, with their verification and census."""
