"""``lightning demo``: a playground in the browser."""
