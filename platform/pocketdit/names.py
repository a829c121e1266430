"""Names that become folders."""


def is_plain_name(name: str) -> bool:
    """Whether ``name`` can name a folder of its own: not empty, no slash, no leading dot."""
    return bool(name) and "/" not in name and not name.startswith(".")
