"""Tests for building data sets from scenes and from folders of images."""

import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from datamodules.imports.build import build_dataset
from datamodules.imports.entries import ReadOptions
from datamodules.scenes.generator import SceneGenerator
from datamodules.shards.build_generated import build_generated
from datamodules.shards.decode import decode_latent
from datamodules.shards.index import load_index
from datamodules.shards.latents import describe_autoencoder
from datamodules.shards.module import ShardDataModule
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import Sample, read_info
from datamodules.shards.stats import contact_sheet, describe_dataset, latent_statistics
from datamodules.shards.validate import validate_dataset
from pocketdit.config.component import Component
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.errors import UserError
from tests.datamodules.latents import DCT, build_latents


def _save_image(path: Path, size: tuple[int, int] = (200, 150), mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).convert(mode).save(path, **options)
    return path


def _build(source: Path, out: Path, **options: Any) -> dict[str, Sample]:
    """Build a data set from a folder, and return its samples by ID."""
    build_dataset(source, out, progress=False, **options)
    report = validate_dataset(out)
    assert report.problems == []
    samples = {}
    for split in ("train", "validation"):
        index = load_index(out, split, "image")
        reader = ShardReader(index)
        samples.update({sample.id: sample for sample in map(reader.read_sample, range(len(index)))})
    return samples


def _decoded(sample: Sample) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sample.payload)))


def test_captions_come_from_txt_json_or_a_table(tmp_path: Path) -> None:
    source = tmp_path / "source"
    _save_image(source / "a.png").with_suffix(".txt").write_text("a cat\n\n a long  cat \n")
    _save_image(source / "deep" / "b.jpg").with_suffix(".json").write_text('{"caption": "a dog"}')
    _save_image(source / "c.webp").with_suffix(".json").write_text('{"captions": ["a bird", "a long bird"]}')
    _save_image(source / "d.bmp")
    (source / "captions.csv").write_text('file,caption\nd.bmp,"a fish, red"\nd.bmp,a long fish\na.png,no\n')
    samples = _build(source, tmp_path / "out")
    assert {name: sample.captions for name, sample in samples.items()} == {
        "a.png": ("a cat a long cat",),
        "deep/b.jpg": ("a dog",),
        "c.webp": ("a bird", "a long bird"),
        "d.bmp": ("a fish, red", "a long fish"),
    }
    assert samples["d.bmp"].extension == "png"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,text\nx/a.png,one\nb.png,two\n"),
        (
            "metadata.jsonl",
            '{"file_name": "x/a.png", "text": "one"}\n\n{"file": "b.png", "captions": ["two"]}\n',
        ),
        ("explicit.csv", "\ufefffile,caption\nx/a.png,one\nb.png,two\n"),
    ],
)
def test_captions_are_read_from_every_table_format(tmp_path: Path, name: str, text: str) -> None:
    source = tmp_path / "source"
    _save_image(source / "x" / "a.png")
    _save_image(source / "b.png").with_suffix(".txt").write_text("next to it")
    table = source / name
    table.write_text(text)
    explicit = table if name == "explicit.csv" else None
    samples = _build(source, tmp_path / "out", reading=ReadOptions(captions=explicit))
    assert samples["x/a.png"].captions == ("one",)
    assert samples["b.png"].captions == (("two",) if explicit else ("next to it",))


def test_original_bytes_are_kept_where_possible(tmp_path: Path) -> None:
    source = tmp_path / "source"
    kept = [_save_image(source / name) for name in ("a.png", "b.jpg", "c.jpeg", "d.webp", "E.JPG")]
    for path in kept:
        path.with_suffix(".txt").write_text("x")
    samples = _build(source, tmp_path / "out")
    assert len(samples) == 5
    assert all(samples[path.name].payload == path.read_bytes() for path in kept)


def test_images_are_rotated_composited_on_white_and_converted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation 6: viewers rotate the image by 90 degrees clockwise
    upright = np.asarray(Image.open(_save_image(tmp_path / "plain.png", size=(200, 152))))
    _save_image(source / "plain.png", size=(200, 152))
    Image.fromarray(upright).save(source / "rotated.png", exif=exif)
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(source / "transparent.png")
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(source / "palette.png", transparency=1)
    Image.fromarray(np.full((64, 64), 32768, dtype=np.uint16)).save(source / "deep.png")
    _save_image(source / "gray.tif", mode="L")
    _save_image(source / "print.jpg", mode="CMYK")
    for path in list(source.iterdir()):
        path.with_suffix(".txt").write_text("x")
    samples = _build(source, tmp_path / "out")
    assert all(_decoded(sample).ndim == 3 and _decoded(sample).shape[2] == 3 for sample in samples.values())
    assert np.array_equal(_decoded(samples["rotated.png"]), np.rot90(upright, k=-1))
    assert (_decoded(samples["transparent.png"]) == 255).all()
    assert (_decoded(samples["palette.png"]) == 255).all()
    assert (_decoded(samples["deep.png"]) == 128).all()
    assert samples["print.jpg"].extension == "jpg"


def test_max_side_never_scales_up(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, size in (("wide.png", (400, 100)), ("small.png", (50, 60))):
        _save_image(source / name, size=size).with_suffix(".txt").write_text("x")
    samples = _build(source, tmp_path / "out", max_side=200)
    assert (samples["wide.png"].width, samples["wide.png"].height) == (200, 50)
    assert (samples["small.png"].width, samples["small.png"].height) == (50, 60)


def test_unusable_images_are_skipped_with_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("good.png", "fine.png"):
        _save_image(source / name).with_suffix(".txt").write_text("x")
    _save_image(source / "silent.png")
    _save_image(source / "blank.png").with_suffix(".txt").write_text(" \n")
    _save_image(source / "odd.png").with_suffix(".json").write_text("[")
    (source / "fake.jpg").write_bytes(b"not an image")
    (source / "fake.txt").write_text("x")
    (source / "._good.png").write_bytes(b"macOS archive metadata")
    half = _save_image(source / "half.png", size=(300, 300))
    half.write_bytes(half.read_bytes()[:300])
    half.with_suffix(".txt").write_text("x")
    (source / "captions.csv").write_text("file,caption\ngone.png,x\n")
    report = build_dataset(source, tmp_path / "out", progress=False)
    reasons = {entry.id.rsplit("/", 1)[-1]: entry.reason for entry in report.skipped}
    assert (report.train, report.validation) == (1, 1)
    assert reasons.keys() == {"silent.png", "blank.png", "odd.png", "fake.jpg", "half.png", "gone.png"}
    assert reasons["silent.png"].startswith("no caption")
    assert reasons["blank.png"] == "blank.txt does not contain a caption"
    assert reasons["odd.png"].startswith("odd.json cannot be read")
    assert reasons["half.png"].startswith("cannot be decoded")
    assert str(report).endswith("1 train, 1 validation samples, 6 skipped")


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"),
    [(1, 0.05, 0), (2, 0.05, 1), (2, 0.99, 1), (9, 0.0, 0), (40, 0.25, None)],
)
def test_split_is_reproducible_and_neither_side_is_empty(
    tmp_path: Path, count: int, fraction: float, held_out: int | None
) -> None:
    source = tmp_path / "source"
    for number in range(count):
        _save_image(source / f"{number}.png", size=(32, 32)).with_suffix(".txt").write_text("x")
    reports = [build_dataset(source, tmp_path / name, validation_fraction=fraction, progress=False) for name in "ab"]
    assert reports[0].train == reports[1].train
    assert reports[0].train + reports[0].validation == count
    assert 4 <= reports[0].validation <= 16 if held_out is None else reports[0].validation == held_out
    assert read_info(tmp_path / "a").fingerprint == read_info(tmp_path / "b").fingerprint


def test_validation_can_repeat_the_training_images(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(3):
        _save_image(source / f"{number}.png").with_suffix(".txt").write_text("x")
    report = build_dataset(source, tmp_path / "out", validation="same", progress=False)
    assert (report.train, report.validation) == (3, 3)
    assert validate_dataset(tmp_path / "out").problems == []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda s: None, "no such folder"),
        (lambda s: s.mkdir(), "contains no image"),
        (
            lambda s: _save_image(s / "a.png"),
            "none of the 1 images is usable for training; the first problem is: a.png: no caption",
        ),
        (
            lambda s: (_save_image(s / "a.png"), (s / "captions.csv").write_text("name,text\n")),
            "the column 'file' .* is missing",
        ),
        (lambda s: (_save_image(s / "a.png"), (s / "captions.csv").write_bytes(b"file,caption\n\xff")), "UTF-8"),
        (
            lambda s: (s.mkdir(), (s / "a.png").write_bytes(b"x"), (s / "a.txt").write_text("x")),
            "none of the 1 images is usable for training; the first problem is: a.png: cannot be decoded",
        ),
    ],
)
def test_folder_without_a_usable_image_is_rejected_with_one_line(
    tmp_path: Path, prepare: Callable[[Path], object], message: str
) -> None:
    prepare(tmp_path / "source")
    with pytest.raises(UserError, match=message) as error:
        build_dataset(tmp_path / "source", tmp_path / "out", progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_scenes_are_reproducible_and_annotated(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_generated(SceneGenerator(), tmp_path / name, 30, 10, seed=5, progress=False)
    assert read_info(tmp_path / "a").fingerprint == read_info(tmp_path / "b").fingerprint
    report = validate_dataset(tmp_path / "a")
    assert report.problems == []
    assert report.samples == {"train": 30, "validation": 10}
    sample = ShardReader(load_index(tmp_path / "a", "train", "image")).read_sample(0)
    assert sample.annotations is not None
    assert {"objects", "geneval"} <= sample.annotations.keys()
    build_generated(SceneGenerator(), tmp_path / "c", 30, 10, seed=6, progress=False)
    assert read_info(tmp_path / "c").fingerprint != read_info(tmp_path / "a").fingerprint


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_scenes_in_other_image_formats_are_valid(tmp_path: Path, image_format: Literal["jpg", "webp"]) -> None:
    build_generated(SceneGenerator(), tmp_path / "a", 5, 2, image_format=image_format, progress=False)
    assert validate_dataset(tmp_path / "a").problems == []


def test_latents_match_the_cropped_images(tmp_path: Path) -> None:
    build_latents(tmp_path / "latents", 12, 2)
    assert validate_dataset(tmp_path / "latents").problems == []
    stored = read_info(tmp_path / "latents").autoencoder
    assert stored is not None
    assert stored["channels"] == 16
    images, latents = (
        {
            row: tensor
            for batch in ShardDataModule(str(tmp_path / folder), batch_size=3, workers=0).val_dataloader()
            for row, tensor in zip(batch["ids"].tolist(), batch[name], strict=True)
        }
        for folder, name in (("latents-images", "images"), ("latents", "latents"))
    )
    for row, latent in latents.items():
        expected = DCTAutoencoder().encode(images[row][None].float() / 127.5 - 1)[0]
        assert torch.allclose(latent, expected, atol=1e-5)


def test_data_set_is_described_and_shown_on_a_contact_sheet(tmp_path: Path) -> None:
    build_generated(SceneGenerator(), tmp_path / "a", 20, 3, progress=False)
    text = describe_dataset(tmp_path / "a")
    assert "train: 20 samples, 1 shard, " in text
    assert re.search(r"bucket +samples +share\n.*\n(.*\n)*128x128 +\d+ +\d+\.\d%", text)
    assert "words in the first caption" in text
    sheet = Image.open(contact_sheet(tmp_path / "a", tmp_path / "sheet.png", count=8, columns=4))
    assert sheet.size == (4 * 192, 2 * 256)
    build_latents(tmp_path / "b", 4, 1)
    assert "latent data set" in describe_dataset(tmp_path / "b")
    with pytest.raises(UserError, match="contains latents"):
        contact_sheet(tmp_path / "b", tmp_path / "sheet.png")


def test_latent_statistics_match_the_latents(tmp_path: Path) -> None:
    autoencoder = DCTAutoencoder(center=0.5)
    build_latents(tmp_path / "a", 12, 0, Component(DCT.class_path, {"center": 0.5}))
    reader = ShardReader(load_index(tmp_path / "a", "train", "latent"))
    described = describe_autoencoder(autoencoder, base_size=128)
    latents = [decode_latent(reader.read_sample(row), described) for row in range(12)]
    stacked = torch.cat([latent.flatten(1) for latent in latents], dim=1)
    for name, expected in (("mean", stacked.mean(1)), ("std", stacked.std(1, correction=0))):
        for folder in ("a", "a-images"):
            text = latent_statistics(tmp_path / folder, autoencoder)
            values = yaml.safe_load(text)[f"latent_{name}"]
            torch.testing.assert_close(torch.tensor(values), expected, atol=2e-3, rtol=0.01)
            overrides = shlex.split(text.partition("settings for these images: ")[2])
            assert [word.partition("=")[0] for word in overrides] == [
                *([] if folder == "a" else ["autoencoder.init_args.center"]),
                "backbone.latent_std",
            ]


def test_dataset_json_records_its_source(tmp_path: Path) -> None:
    build_generated(SceneGenerator(), tmp_path / "a", 2, 0, seed=3, progress=False)
    data = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert (data["schema"], data["kind"], data["source"]) == (1, "image", "datamodules.scenes, seed 3")
