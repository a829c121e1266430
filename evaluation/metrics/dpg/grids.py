"""The 2x2 grids in which DPG-Bench's script expects a prompt's four images (TencentQQGYLab/ELLA, ``--pic-num 4``)."""

from evaluation.contract import ImageArray

TILES = 4  # images per prompt


def split_grid(image: ImageArray) -> tuple[ImageArray, ImageArray, ImageArray, ImageArray]:
    """Return the four images of a grid in the script's order: the upper row, then the lower row, from left to right.

    The order matters, because the script computes category scores from the last image only.

    Raises:
        ValueError: The sides of the image are not even.
    """
    height, width = image.shape[0] // 2, image.shape[1] // 2
    if image.shape[:2] != (2 * height, 2 * width):
        raise ValueError(f"a 2x2 grid has even sides, but this image has {image.shape[1]}x{image.shape[0]} pixels")
    upper, lower = image[:height], image[height:]
    return upper[:, :width], upper[:, width:], lower[:, :width], lower[:, width:]
