"""References of shards and of folders: taken once, kept whole, refused for another network."""

import io
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
from evaluation.metrics.reference import (
    build_reference,
    encode_all,
    load_reference,
    open_source,
    reference_for,
    save_reference,
)
from pocketdit.errors import UserError


class Thumbnail:
    """An encoder that can be computed by eye: a picture of 2x2 pixels, 12 dimensions. Counts what it has seen."""

    def __init__(self, version: str = "2x2") -> None:
        self.backend = Backend("thumbnail", version)
        self.seen = 0

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        self.seen += len(pictures)
        small = [np.asarray(Image.fromarray(p).resize((2, 2), Image.Resampling.BOX)) for p in pictures]
        return np.stack(small).reshape(len(small), -1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for i in range(40):
        place = tmp_path / "real" / ("deeper" if i % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(place / f"{i:02d}.png")
    (tmp_path / "real" / "notes.txt").write_text("no picture")
    return tmp_path / "real"


def test_shards_give_the_pictures_that_lie_in_them(scenes: Path) -> None:
    source = open_source(scenes)
    assert (source.name, source.count) == ("scenes-train", 64)
    reader = ShardReader(load_index(scenes, "train", "image"))
    for row in (0, 63):
        expected = np.asarray(Image.open(io.BytesIO(reader.sample(row).payload)).convert("RGB"))
        np.testing.assert_array_equal(source.picture(row), expected)
    assert open_source(scenes, "validation").count == 16
    assert open_source(scenes, "validation").fingerprint != source.fingerprint


def test_statistics_are_of_all_pictures(scenes: Path, tmp_path: Path) -> None:
    encoder = Thumbnail()
    reference = build_reference(scenes, encoder, "scenes")
    source = open_source(scenes)
    features = Thumbnail().encode_images([source.picture(i) for i in range(64)])
    mean, covariance = statistics(features)
    np.testing.assert_allclose(reference.mean, mean)
    np.testing.assert_allclose(reference.covariance, covariance)
    np.testing.assert_array_equal(reference.features, features)
    assert (reference.samples, encoder.seen) == (64, 64)
    assert frechet_distance(reference.gaussian(), Gaussian.from_samples(features)) < 1e-8


def test_a_stored_reference_comes_back_whole(folder: Path, tmp_path: Path) -> None:
    reference = build_reference(folder, Thumbnail(), "real-thumbnail")
    path = save_reference(reference, tmp_path / "kept")
    assert path == tmp_path / "kept" / "real-thumbnail.safetensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    found = load_reference(path, Thumbnail().backend)
    for name in ("name", "source", "encoder", "version", "samples"):
        assert getattr(found, name) == getattr(reference, name)
    for name in ("mean", "covariance", "features"):
        np.testing.assert_array_equal(getattr(found, name), getattr(reference, name))
    assert found.samples == 40 and found.source.startswith("real, ")


def test_many_samples_are_drawn_and_some_features_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.metrics.reference._KEPT", 10)
    all_of_them, some = build_reference(folder, Thumbnail(), "a"), build_reference(folder, Thumbnail(), "b", samples=30)
    assert (all_of_them.samples, some.samples) == (40, 30)
    assert all_of_them.features.shape == some.features.shape == (10, 12)
    np.testing.assert_array_equal(some.features, build_reference(folder, Thumbnail(), "b", samples=30).features)
    assert not np.array_equal(some.mean, build_reference(folder, Thumbnail(), "b", samples=30, seed=1).mean)
    moments = Gaussian.from_moments(some.mean, some.covariance)
    assert frechet_distance(some.gaussian(), moments) < 1e-8  # of all 30, not of the 10 that are kept


def test_it_is_made_once_and_anew_when_something_changes(folder: Path, tmp_path: Path) -> None:
    kept, encoder = tmp_path / "kept", Thumbnail()
    first = reference_for(folder, encoder, kept)
    assert reference_for(folder, encoder, kept).name == first.name
    assert encoder.seen == 40
    names = {first.name}
    names.add(reference_for(folder, Thumbnail("2x2 by another filter"), kept).name)
    names.add(reference_for(folder, encoder, kept, samples=20).name)
    picture = next(folder.glob("*.png"))
    os.utime(picture, ns=(1, 1))
    names.add(reference_for(folder, encoder, kept).name)
    assert len(names) == 4 == len(list(kept.iterdir()))
    assert all(name.startswith("real-thumbnail-") for name in names)


def test_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    path = save_reference(build_reference(folder, Thumbnail(), "real"), tmp_path)
    assert reference_for(path, Thumbnail(), tmp_path).samples == 40
    with pytest.raises(UserError, match=r"made by thumbnail \(2x2\), but the metric has thumbnail \(3x3\)"):
        reference_for(path, Thumbnail("3x3"), tmp_path)


def test_files_that_are_no_reference_are_refused(folder: Path, tmp_path: Path) -> None:
    backend = Thumbnail().backend
    with pytest.raises(UserError, match="no such reference"):
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
    with pytest.raises(UserError, match="not one width"):
        load_reference(tmp_path / "narrow.safetensors", backend)


def test_sources_without_pictures_are_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or reference"):
        reference_for(tmp_path / "nowhere", Thumbnail(), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        reference_for(tmp_path / "empty", Thumbnail(), tmp_path)
    with pytest.raises(UserError, match="no split 'test'"):
        reference_for(scenes, Thumbnail(), tmp_path, split="test")
    with pytest.raises(UserError, match="no pictures to take features of"):
        encode_all([], Thumbnail())


def test_latents_are_refused(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    text = (scenes / "dataset.json").read_text().replace('"kind": "image"', '"kind": "latent"')
    (tmp_path / "latents" / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="holds latents"):
        open_source(tmp_path / "latents")


def test_a_picture_that_does_not_decode_is_named(folder: Path) -> None:
    (folder / "00.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"00\.png: does not decode"):
        build_reference(folder, Thumbnail(), "real")
