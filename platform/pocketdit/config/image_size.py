"""Image sizes as text, such as 768x1024."""

import re
from typing import Annotated

from pocketdit.bounds import MAX_SIDE
from pocketdit.config.scalar import Form

_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.IGNORECASE)

_FORM = Form(f"HEIGHTxWIDTH in pixels, such as 768x1024, with sides of at most {MAX_SIDE}")
ImageSize = Annotated[str, _FORM]
"""An image height and width in pixels, as text. The text may be empty if there is a default size."""


def parse_size(text: str, option: str = "size=") -> tuple[int, int]:
    """Parse an image size HEIGHTxWIDTH.

    Args:
        text: The image size as text.
        option: Text that error messages show before the image size, such as ``size=``.

    Raises:
        ValueError: The text does not have this form, or a side is too long.
    """
    match = _SIZE.fullmatch(text)
    if not match or max(map(int, match.groups())) > MAX_SIDE:
        raise ValueError(f"{option}{text}: must be {_FORM}")
    return int(match[1]), int(match[2])
