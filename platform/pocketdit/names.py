"""Check names that are used as folder names."""


def is_plain_name(name: str) -> bool:
    """Return whether a name can be a single folder: it is not empty and has no slash and no leading dot."""
    return bool(name) and "/" not in name and not name.startswith(".")
