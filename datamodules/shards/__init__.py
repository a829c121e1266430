"""Data sets as WebDataset shards: format, tools and an exactly resumable multi-aspect loader."""

import pocketdit  # noqa: F401  (before lightning: it prepares torchvision for a CPU torch)
