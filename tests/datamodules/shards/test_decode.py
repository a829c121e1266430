"""Tests for decoding images, choosing captions, and stateless random numbers."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.shards import stateless_random
from datamodules.shards.batches import CaptionChoice, choose_caption
from datamodules.shards.buckets import Bucket
from datamodules.shards.decode import decode_image
from datamodules.shards.schema import Sample, SampleError

Maker = Callable[..., Sample]


def _sample(image: Image.Image, extension: str = "png") -> Sample:
    file = io.BytesIO()
    image.save(file, format="JPEG" if extension == "jpg" else extension)
    return Sample("x", ("x",), image.width, image.height, file.getvalue(), extension)


def _bars() -> Image.Image:
    """Return a 300x100 image with three vertical bars: red, green, and blue."""
    pixels = np.zeros((100, 300, 3), dtype=np.uint8)
    for third in range(3):
        pixels[:, 100 * third : 100 * (third + 1), third] = 255
    return Image.fromarray(pixels)


def test_image_of_its_bucket_size_is_unchanged(make_sample: Maker) -> None:
    sample = make_sample(1, size=(160, 96))
    expected = np.asarray(Image.open(io.BytesIO(sample.payload)))
    assert np.array_equal(decode_image(sample, Bucket(160, 96)).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(("crop_x", "channel"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_crop_is_taken_at_its_position(crop_x: float, channel: int) -> None:
    image = decode_image(_sample(_bars()), Bucket(64, 64), crop_x=crop_x)
    assert image.shape == (3, 64, 64)
    inner = image[:, :, 2:-2].float()  # without the edges, where the resampling filter mixes in neighboring bars
    assert inner[channel].mean() > 254
    assert inner.sum() < 255 * 64 * 61


def test_flip_mirrors_the_image() -> None:
    sample = _sample(_bars())
    bucket = Bucket(96, 32)
    assert torch.equal(decode_image(sample, bucket, flip=True), decode_image(sample, bucket).flip(-1))


def test_large_jpeg_decoded_at_a_smaller_scale_keeps_its_content() -> None:
    gradient = Image.linear_gradient("L").resize((2048, 2048)).convert("RGB")
    small = decode_image(_sample(gradient, "jpg"), Bucket(128, 128)).float()
    exact = decode_image(_sample(gradient), Bucket(128, 128)).float()
    assert (small - exact).abs().max() <= 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_image_mode_becomes_rgb(mode: str) -> None:
    image = _bars().convert(mode)
    sample = _sample(image, "jpg" if mode == "CMYK" else "png")
    assert decode_image(sample, Bucket(96, 32)).shape == (3, 32, 96)


def test_decompression_bomb_is_a_broken_sample(make_sample: Maker) -> None:
    payload = bytearray(make_sample(0).payload)
    payload[16:24] = (100_000).to_bytes(4, "big") * 2  # overwrite the width and height in the PNG header
    with pytest.raises(SampleError, match="cannot be decoded"):
        decode_image(Sample("x", ("x",), 100_000, 100_000, bytes(payload), "png"), Bucket(128, 128))


def test_captions_are_chosen_with_the_requested_probabilities() -> None:
    length_draws, caption_draws = np.random.default_rng(0).random((2, 40_000))

    def share(choice: CaptionChoice) -> list[float]:
        pairs = zip(length_draws, caption_draws, strict=True)
        chosen = [choose_caption(3, choice, *pair) for pair in pairs]
        return [round(chosen.count(caption) / len(chosen), 2) for caption in range(3)]

    assert share("short") == [1, 0, 0] == share(1.0)
    assert share("long") == pytest.approx([0, 0.5, 0.5], abs=0.01)
    assert share("random") == pytest.approx([1 / 3] * 3, abs=0.01)
    assert share(0.2) == pytest.approx([0.2, 0.4, 0.4], abs=0.01)
    assert choose_caption(1, "long", 0.9, 0.9) == 0


def test_random_numbers_are_uniform_independent_and_never_change() -> None:
    values = stateless_random.uniform(stateless_random.Purpose.CAPTION, 0, np.arange(100)[:, None], np.arange(100))
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(np.var(values) - 1 / 12) < 0.003
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.03
    assert len(np.unique(values)) == values.size
    # With a different generator, runs that resume from older checkpoints would silently read other batches.
    assert stateless_random.random_bits(1, 2, 3).item() == 15020427595393229491
    assert stateless_random.permutation(8, 0, 1).tolist() == [3, 0, 1, 5, 2, 7, 4, 6]
    assert stateless_random.random_bits(-1, 5).item() != stateless_random.random_bits(1, 5).item()
