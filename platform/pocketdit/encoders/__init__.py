"""Frozen models around the backbone, which map images to latents and back and captions to tokens."""
