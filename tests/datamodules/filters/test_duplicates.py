"""Tests the duplicate index against a comparison of all pairs, and tests the image hashes with photographs."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from datamodules.filters.duplicates import MAX_DISTANCE, DuplicateIndex, ImageHashes
from datamodules.filters.hashes import hash_image


@pytest.mark.parametrize("distance", [0, 1, 3, 7, MAX_DISTANCE])
def test_index_finds_what_a_comparison_of_all_pairs_finds(distance: int) -> None:
    numbers = np.random.default_rng(distance)
    looks = [int(look) for look in numbers.integers(0, 2**63, 60)]
    for look in list(looks):  # add variants that differ in 0 to 17 bits
        for count in numbers.integers(0, 18, 4):
            bits = numbers.choice(64, count, replace=False)
            looks.append(look ^ sum(1 << int(bit) for bit in bits))
    index, kept = DuplicateIndex(distance), list[tuple[str, int]]()
    for number, look in enumerate(looks):
        distances = [((look ^ other).bit_count(), name) for name, other in kept]
        nearest = min((pair[0] for pair in distances), default=99)
        original = index.add(str(number), ImageHashes(f"pixels {number}", look))
        if nearest <= distance:
            assert (nearest, original) in distances
        else:
            assert original is None
            kept.append((str(number), look))
    index.close()


def test_exact_index_compares_pixels_only() -> None:
    index = DuplicateIndex(None)
    assert index.add("a", ImageHashes("1", 0)) is None
    assert index.add("b", ImageHashes("2", 0)) is None
    assert index.add("c", ImageHashes("1", 7)) == "a"
    assert index.add("d", ImageHashes("1", 7)) == "a"
    index.close()


def test_first_image_stays_the_original() -> None:
    """Images are only compared with images that were kept, so "c" is kept although it resembles the dropped "b"."""
    index = DuplicateIndex(1)
    assert [index.add(name, ImageHashes(name, look)) for name, look in (("a", 0), ("b", 1), ("c", 3))] == [
        None,
        "a",
        None,
    ]
    index.close()


def test_pixels_decide_the_exact_hash() -> None:
    picture = Image.fromarray(data.astronaut())
    other = picture.copy()
    other.putpixel((0, 0), (1, 2, 3))
    hashes = [hash_image(image, perceptual=False).pixels for image in (picture, picture.copy(), other)]
    assert hashes[0] == hashes[1] != hashes[2]
    wide, high = Image.new("RGB", (8, 2)), Image.new("RGB", (2, 8))  # their pixels have the same bytes
    assert hash_image(wide, perceptual=False) != hash_image(high, perceptual=False)


def test_perceptual_hash_survives_scaling_and_tells_pictures_apart() -> None:
    pictures = [
        Image.fromarray(picture) for picture in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    ]
    looks = [hash_image(picture, perceptual=True).look for picture in pictures]
    smaller = [picture.resize((picture.width // 2, picture.height // 2)) for picture in pictures]
    for look, picture in zip(looks, smaller, strict=True):
        assert (look ^ hash_image(picture, perceptual=True).look).bit_count() <= 3
    for i, look in enumerate(looks):
        assert all((look ^ other).bit_count() > MAX_DISTANCE for other in looks[:i])
