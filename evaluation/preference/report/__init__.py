"""The report of a preference study."""
