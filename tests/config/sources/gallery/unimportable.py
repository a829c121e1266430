"""Signatures are read without import: importing this fails."""

raise ImportError("gallery needs a library that is not installed")


class Unimportable:
    def __init__(self, depth: int) -> None:
        self.depth = depth
