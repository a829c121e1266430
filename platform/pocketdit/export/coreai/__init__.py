"""Export to Core AI packages, with their verification and census."""
