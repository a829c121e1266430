"""Tests that reference statistics are computed once, never stored partially, and rejected for other networks."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from evaluation.contract import Backend, ImageArray
from evaluation.metrics.frechet import Gaussian, frechet_distance, statistics
from evaluation.metrics.image_source import open_source
from evaluation.metrics.reference import (
    build_reference,
    encode_all,
    load_reference,
    reference_for,
    save_reference,
)
from pocketdit.errors import UserError


class Thumbnail:
    """Encodes images as thumbnails of 2x2 pixels, which have 12 dimensions, and counts the images."""

    def __init__(self, version: str = "2x2") -> None:
        self.backend = Backend("thumbnail", version)
        self.count = 0

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        self.count += len(images)
        small = [np.asarray(Image.fromarray(image).resize((2, 2), Image.Resampling.BOX)) for image in images]
        return np.stack(small).reshape(len(small), -1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for i in range(40):
        subfolder = tmp_path / "real" / ("deeper" if i % 2 else "")
        subfolder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(subfolder / f"{i:02d}.png")
    (tmp_path / "real" / "notes.txt").write_text("not an image")
    return tmp_path / "real"


def test_shards_yield_their_images(scenes: Path) -> None:
    source = open_source(scenes)
    assert (source.name, source.count) == ("scenes-train", 64)
    reader = ShardReader(load_index(scenes, "train", "image"))
    for row in (0, 63):
        expected = np.asarray(Image.open(io.BytesIO(reader.read_sample(row).payload)).convert("RGB"))
        np.testing.assert_array_equal(source.read(row), expected)
    assert open_source(scenes, "validation").count == 16
    assert open_source(scenes, "validation").fingerprint != source.fingerprint


def test_statistics_cover_all_images(scenes: Path, tmp_path: Path) -> None:
    encoder = Thumbnail()
    reference = build_reference(scenes, encoder, "scenes")
    source = open_source(scenes)
    features = Thumbnail().encode_images([source.read(i) for i in range(64)])
    mean, covariance = statistics(features)
    np.testing.assert_allclose(reference.mean, mean)
    np.testing.assert_allclose(reference.covariance, covariance)
    np.testing.assert_array_equal(reference.features, features)
    assert (reference.samples, encoder.count) == (64, 64)
    assert frechet_distance(reference.gaussian(), Gaussian.from_samples(features)) < 1e-8


def test_saved_reference_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    reference = build_reference(folder, Thumbnail(), "real-thumbnail")
    path = save_reference(reference, tmp_path / "kept")
    assert path == tmp_path / "kept" / "real-thumbnail.safetensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    loaded = load_reference(path, Thumbnail().backend)
    for name in ("name", "source", "encoder", "version", "samples"):
        assert getattr(loaded, name) == getattr(reference, name)
    for name in ("mean", "covariance", "features"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(reference, name))
    assert loaded.samples == 40
    assert loaded.source.startswith("real, ")


def test_samples_and_stored_features_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.metrics.reference._STORED_FEATURES", 10)
    complete, limited = build_reference(folder, Thumbnail(), "a"), build_reference(folder, Thumbnail(), "b", samples=30)
    assert (complete.samples, limited.samples) == (40, 30)
    assert complete.features.shape == limited.features.shape == (10, 12)
    np.testing.assert_array_equal(limited.features, build_reference(folder, Thumbnail(), "b", samples=30).features)
    assert not np.array_equal(limited.mean, build_reference(folder, Thumbnail(), "b", samples=30, seed=1).mean)
    # The Gaussian is computed from all 30 features, not only from the 10 stored ones.
    moments = Gaussian.from_moments(limited.mean, limited.covariance)
    assert frechet_distance(limited.gaussian(), moments) < 1e-8


def test_reference_is_computed_once_and_again_after_changes(folder: Path, tmp_path: Path) -> None:
    kept, encoder = tmp_path / "kept", Thumbnail()
    first = reference_for(folder, encoder, kept)
    assert reference_for(folder, encoder, kept).name == first.name
    assert encoder.count == 40
    names = {first.name}
    names.add(reference_for(folder, Thumbnail("2x2 by another filter"), kept).name)
    names.add(reference_for(folder, encoder, kept, samples=20).name)
    image = next(folder.glob("*.png"))
    os.utime(image, ns=(1, 1))
    names.add(reference_for(folder, encoder, kept).name)
    assert len(names) == 4 == len(list(kept.iterdir()))
    assert all(name.startswith("real-thumbnail-") for name in names)


def test_hidden_files_and_grids_are_not_in_the_reference(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = build_reference(folder, Thumbnail(), "real")
    for name in (
        ".00.png",
        "._01.png",
        ".thumbnails/00.png",
        "deeper/.cache/01.png",
        "grid.png",
        "deeper/Grid-0001.PNG",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    reference = build_reference(folder, Thumbnail(), "real")
    assert (reference.samples, reference.source) == (40, expected.source)
    np.testing.assert_array_equal(reference.mean, expected.mean)
    out = capsys.readouterr().out
    assert "3 files or folders are not in the reference, such as deeper/Grid-0001.PNG: an image grid" in out
    Image.new("RGB", (8, 8)).save(folder / "grid of beams.png")
    assert build_reference(folder, Thumbnail(), "real").samples == 41


def test_other_networks_are_rejected(folder: Path, tmp_path: Path) -> None:
    path = save_reference(build_reference(folder, Thumbnail(), "real"), tmp_path)
    assert reference_for(path, Thumbnail(), tmp_path).samples == 40
    with pytest.raises(UserError, match=r"computed with thumbnail \(2x2\), but the metric uses thumbnail \(3x3\)"):
        reference_for(path, Thumbnail("3x3"), tmp_path)


def test_invalid_files_are_rejected(folder: Path, tmp_path: Path) -> None:
    backend = Thumbnail().backend
    with pytest.raises(UserError, match="no such reference file"):
        load_reference(tmp_path / "none.safetensors", backend)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a reference"):
        load_reference(tmp_path / "broken.safetensors", backend)
    path = save_reference(build_reference(folder, Thumbnail(), "real"), tmp_path)
    tensors = load_file(path)
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="not a reference"):
        load_reference(tmp_path / "bare.safetensors", backend)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    save_file(tensors | {"mean": tensors["mean"][:5]}, tmp_path / "narrow.safetensors", metadata)
    with pytest.raises(UserError, match="mean, covariance and features have different dimensions"):
        load_reference(tmp_path / "narrow.safetensors", backend)


def test_sources_without_images_are_rejected(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or reference"):
        reference_for(tmp_path / "nowhere", Thumbnail(), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains neither images"):
        reference_for(tmp_path / "empty", Thumbnail(), tmp_path)
    with pytest.raises(UserError, match="no split 'test'"):
        reference_for(scenes, Thumbnail(), tmp_path, split="test")
    with pytest.raises(UserError, match="there are no images to compute features from"):
        encode_all([], Thumbnail())


def test_latents_are_rejected(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    info = json.loads((scenes / "dataset.json").read_text()) | {"kind": "latent", "autoencoder": {"factor": 8}}
    (tmp_path / "latents" / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="contains latents"):
        open_source(tmp_path / "latents")


def test_undecodable_image_is_reported(folder: Path) -> None:
    (folder / "00.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"00\.png: cannot be decoded"):
        build_reference(folder, Thumbnail(), "real")
