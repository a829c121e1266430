"""Filters that exclude some images of a source, such as small images and duplicates."""
