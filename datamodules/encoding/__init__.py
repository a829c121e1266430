"""Encodes image data sets, so that latents and text embeddings are computed once instead of in every training step."""
