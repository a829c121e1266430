"""Importing this fails."""

raise ImportError("gallery needs a library that is not installed")
