"""Extracts captions from table rows, JSON, text files, and the members of tars."""
