"""The web pages on which raters compare images."""
