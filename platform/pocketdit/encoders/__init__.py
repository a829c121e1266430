"""Frozen models around the backbone: images to latents and back, captions to tokens."""
