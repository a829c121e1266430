"""Metrics: images and prompts in, named numbers out."""
