"""Rules that leave out images of a source, such as small images and duplicates."""
