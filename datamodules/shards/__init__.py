"""Data sets as WebDataset shards: the format, its tools, and a multi-aspect loader that resumes at the exact sample."""

import pocketdit  # noqa: F401  (before lightning: it prepares torchvision for a CPU build of torch)
