"""``lightning demo``, which serves a playground for sampling images in the browser."""
