"""Formats a number and its noun for messages, such as "2 images"."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with a noun in the singular or the plural, such as "1 image" or "2 images".

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: The noun in the plural. Required only if the plural is not formed by adding "s".
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
