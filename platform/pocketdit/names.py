"""Validation of names that become folder names."""


def is_plain_name(name: str) -> bool:
    """Return whether a name is valid for a folder: not empty, without slashes, and without a leading dot."""
    return bool(name) and "/" not in name and not name.startswith(".")
