"""Takes captions from rows, JSON, text files, and the members of tars."""
