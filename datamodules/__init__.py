"""Data sets: rendered scenes, and shards of images or latents with their loader."""
