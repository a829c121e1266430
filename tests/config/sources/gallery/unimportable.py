"""A module whose import fails."""

raise ImportError("gallery needs a library that is not installed")
