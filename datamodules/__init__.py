"""Data sets: the shard format with its loader, and the tools that build, import and encode data sets."""
