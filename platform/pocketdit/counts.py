"""Combines numbers with their nouns, for messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with a noun in the singular or the plural, such as "1 image" or "2 images".

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: The noun in the plural, if it is not the singular with an additional s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
