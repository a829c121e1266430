"""``lightning sample``: sample images from prompts."""
