"""Data sets in WebDataset shards: the format, tools, and a multi-aspect loader that resumes at the exact sample."""

import pocketdit  # noqa: F401  (must precede lightning: it prepares torchvision for CPU builds of torch)
