"""Data sets of rendered scenes, and the shard format for images and latents with its loader."""
