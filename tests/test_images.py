"""Tests for converting images between uint8 and float."""

import numpy as np
import pytest
import torch

from pocketdit.errors import RunError
from pocketdit.images import from_uint8, require_finite, to_uint8


def test_the_conversion_can_be_reversed() -> None:
    images = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(images)), images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_counted(value: float) -> None:
    images = torch.zeros(3, 3, 4, 4)
    assert require_finite(images, "model") is images
    images[1, 0, 2, 3] = value
    with pytest.raises(RunError, match="model: 1 of 3 images contain NaN or infinity"):
        require_finite(images, "model")
    with pytest.raises(RunError, match="model: 1 of 3 images contain NaN or infinity"):
        require_finite(np.asarray(images), "model")
