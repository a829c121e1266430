"""Metrics, which turn images and their prompts into named scores."""
