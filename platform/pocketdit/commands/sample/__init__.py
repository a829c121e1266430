"""``lightning sample``, which samples images from prompts."""
