"""Rendered scenes: images of colored shapes, with captions and exact annotations."""
