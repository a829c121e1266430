"""Frozen models around the backbone: autoencoders for images and text encoders for captions."""
