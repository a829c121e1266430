"""Encoding of image data sets: latents and text embeddings, computed once instead of in every step."""
