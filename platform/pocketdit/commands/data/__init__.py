"""``lightning data``: build, validate and describe data sets."""
