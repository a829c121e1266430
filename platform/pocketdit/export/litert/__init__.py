"""LiteRT files for Android."""
