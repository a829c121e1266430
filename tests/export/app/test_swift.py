"""Tests that the Swift package draws the same latents and images as the Python reference.

``pocketdit-check`` executes the Swift package with a stand-in for the exported packages of a bundle.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketdit.diffusion.portable_noise import portable_noise
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.encoders.word_vectors import WordVectorEncoder
from pocketdit.errors import RunError
from pocketdit.export.app.bundle import Bundle
from pocketdit.export.app.draw import decode, draw_latents
from pocketdit.export.app.runtimes import Runtime
from tests.export.app.swift_jobs import Manifest, add_encoder, clip_tokenizer, swift, write

SEED, PROMPT = 2**40 + 7, "A red circle, left of 2 blue SQUARES: straße naïve 猫\u0301 ½ x_y"
TOLERANCE = 1e-5
"""Largest difference of latents that is a rounding error."""


def weight(name: str) -> float:
    """Return the weight of a tensor in the stand-in."""
    return {"time": 4.0, "latents": 0.25}.get(name, (sum(name.encode()) % 10 + 1) / 5)


def mean(value: Tensor, row: int) -> float:
    """Return a weighted mean of a row. If there is only one, it belongs to all rows of the batch."""
    elements = value.reshape(len(value), -1).double()[row if len(value) > 1 else 0]
    return float((elements * (torch.arange(len(elements)) % 7 + 1)).mean())


def stand_in(manifest: Manifest) -> Runtime:
    """Return the stand-in for the packages of a bundle, with the same formula as ``pocketdit-check``."""

    def run(package: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = {}
        for name, entry in manifest["packages"][package]["outputs"].items():
            rows, *shape = entry["shape"]
            sums = [weight(name) + sum(weight(key) * mean(v, row) for key, v in inputs.items()) for row in range(rows)]
            values = [[math.sin(total + k % 5) for k in range(math.prod(shape))] for total in sums]
            outputs[name] = torch.tensor(values, dtype=torch.float32).reshape(entry["shape"])
        return outputs

    return run


def set_sampling(manifest: Manifest, sampler: str, guidance: float, batch: int) -> None:
    """Change a manifest to another sampler, guidance scale and batch size of the transformer."""
    manifest["sampling"].update(sampler=sampler, guidance=guidance)
    for package in ("text_projection", "transformer"):
        for tensors in ("inputs", "outputs"):
            for entry in manifest["packages"][package][tensors].values():
                entry["shape"][0] = batch


@pytest.mark.slow  # compiles the Swift package
@pytest.mark.parametrize(
    ("sampler", "guidance", "batch", "steps", "lora_scale"),
    [("euler", 1, 1, None, 1.0), ("heun", 3, 2, 7, 0.5), ("dpmpp_2m", 2, 1, None, 1.0)],
)
def test_swift_equals_python(
    check: Path,
    manifest: Manifest,
    tmp_path: Path,
    sampler: str,
    guidance: float,
    batch: int,
    steps: int | None,
    lora_scale: float,
) -> None:
    set_sampling(manifest, sampler, guidance, batch)
    if lora_scale != 1:
        manifest["packages"]["transformer"]["inputs"]["lora_scale"] = {"shape": [1], "dtype": "float32"}
    add_encoder(manifest, tmp_path, WordVectorEncoder(max_tokens=12).portable(), 12)
    add_encoder(manifest, tmp_path, clip_tokenizer(), 20)
    bundle = write(manifest, tmp_path)
    job = {"bundle": str(tmp_path), "prompt": PROMPT, "seed": SEED, "steps": steps, "loraScale": lora_scale}
    (result,) = swift(check, tmp_path, [job])

    latents = tuple(manifest["latents"][name] for name in ("channels", "height", "width"))
    noise = portable_noise(SEED, latents).reshape(-1).view(np.uint32)
    assert [int(bits, 16) for bits in result["noise"]] == noise.tolist()
    times = uniform_times(steps, manifest["sampling"]["time_shift"]) if steps else bundle.times
    expected = draw_latents(bundle, stand_in(manifest), PROMPT, SEED, times, lora_scale)
    np.testing.assert_allclose(result["latents"], expected.reshape(-1).numpy(), atol=TOLERANCE)
    image = decode(bundle, stand_in(manifest), expected).reshape(-1).numpy().astype(int)
    assert np.abs(np.array(result["image"]) - image).max() <= 1  # a rounding error can change a byte by 1


def with_input(name: str, change: Callable[[Tensor], Tensor], run: Runtime) -> Runtime:
    """Return a runtime that changes an input of the packages if they have it."""
    return lambda package, inputs: run(
        package, {key: change(value) if key == name else value for key, value in inputs.items()}
    )


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_stand_in_reveals_mistakes(manifest: Manifest, tmp_path: Path, sampler: str) -> None:
    set_sampling(manifest, sampler, 2, 2)
    run, times = stand_in(manifest), uniform_times(5, 3)
    correct = draw_latents(Bundle(tmp_path, manifest), run, PROMPT, SEED, times)

    def deviation(run: Runtime = run, times: Sequence[float] = times, **sampling: Any) -> float:
        other = manifest | {"sampling": manifest["sampling"] | sampling}
        latents = draw_latents(Bundle(tmp_path, other), run, PROMPT, SEED, times)
        return float((latents - correct).abs().max())

    def exchanged(time: Tensor) -> Tensor:
        """Exchange the times of the second and the third step."""
        first, second = (torch.tensor(value) for value in times[1:3])
        return torch.where(time.isclose(first), second, torch.where(time.isclose(second), first, time))

    deviations = {
        "a time of the list": deviation(times=[times[0], times[1] - 0.01, *times[2:]]),
        "the time of the network": deviation(with_input("time", lambda time: time - 1e-3, run)),
        "the order of the steps": deviation(with_input("time", exchanged, run)),
        "the guidance scale": deviation(guidance=2.01),
        "the sign of the guidance": deviation(guidance=-1),
        "with and without text": deviation(with_input("text", lambda rows: rows.flip(0), run)),
        **{name: deviation(sampler=name) for name in {"euler", "heun", "dpmpp_2m"} - {sampler}},
    }
    too_small = {name: value for name, value in deviations.items() if value < 5 * TOLERANCE}
    assert too_small == {}, deviations


@pytest.mark.slow  # compiles the Swift package
def test_pixels_are_clamped_or_refused(check: Path, manifest: Manifest, tmp_path: Path) -> None:
    bundle = write(manifest, tmp_path)
    pixels = ["-7", "-1", "-0.5", "0", "0.0039215689", "0.011764707", "0.5", "1", "2.5", "1e30"]
    broken = ["nan", "inf", "-inf"]
    jobs = [{"bundle": str(tmp_path), "steps": 1, "pixels": values} for values in (pixels, *([x, "0"] for x in broken))]
    usable, *refused = swift(check, tmp_path, jobs)
    shape = manifest["packages"]["decoder"]["outputs"]["image"]["shape"]

    def image(values: list[str]) -> list[int]:
        numbers = torch.tensor([float(value) for value in values]).repeat(math.prod(shape))[: math.prod(shape)]
        decoded: list[int] = decode(bundle, lambda *_: {"image": numbers.reshape(shape)}, numbers).reshape(-1).tolist()
        return decoded

    assert usable["image"] == image(pixels)
    for value, result in zip(broken, refused, strict=True):
        with pytest.raises(RunError, match="contain NaN or infinity; check the weights and their precision"):
            image([value, "0"])
        assert "contains NaN or infinity; check the weights and their precision" in result["error"]
