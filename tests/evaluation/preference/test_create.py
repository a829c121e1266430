"""Tests that images are encoded once, without metadata and under random names, and that interrupted calls resume."""

import csv
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from evaluation.preference import create as module
from evaluation.preference.create import create
from evaluation.preference.invitations import read_tokens
from evaluation.preference.pictures import encode_subject, path_of
from evaluation.preference.settings import Preference
from pocketdit.commands.main import main
from pocketdit.config.load import load
from tests.evaluation.preference.conftest import COLORS, PROMPTS, Created


def test_images_keep_their_pixels_but_neither_metadata_nor_names(created: Created, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "model a")
    Image.new("RGB", (32, 24), (255, 0, 0)).save(tmp_path / "a" / "00000.png", pnginfo=info)
    Image.new("RGB", (32, 24), (9, 9, 9)).save(tmp_path / "b" / "00000.jpg", exif=Image.Exif(), comment=b"model b")
    (tmp_path / "b" / "00000.png").unlink()
    loaded, store = created()
    images = store.images()
    assert set(images) == {*((i, s) for i in range(PROMPTS) for s in "ab"), *((i, "") for i in range(PROMPTS))}
    assert len(set(images.values())) == 3 * PROMPTS
    for (index, subject), identifier in images.items():
        path = path_of(loaded.config.folder, identifier)
        assert len(identifier) == 22
        content = path.read_bytes()
        assert b"model" not in content
        assert b"tEXt" not in content
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert not image.info
            pixels = np.asarray(image)
        assert pixels.shape == (24, 32, 3)
        if subject and index:
            assert (pixels == (COLORS[subject][0], 10 * index, COLORS[subject][2])).all()
        elif not subject:
            assert 60 < pixels.std() < 90  # the standard deviation of uniform noise is 73.9
    names = {path.name for path in (loaded.config.folder / "images").iterdir()}
    assert names == {f"{identifier}.png" for identifier in images.values()}


def test_interrupted_call_resumes_with_the_missing_images(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def interrupted(*arguments: object) -> None:
        encode_subject(*arguments)  # type: ignore[arg-type]
        calls.append(str(arguments[-1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "encode_subject", interrupted)
    assert main(["preference", "create", str(file)]) == 1
    assert main(["preference", "serve", str(file)]) == 1
    assert "the study test has not been created; create it with: lightning preference create" in capsys.readouterr().err
    monkeypatch.undo()
    loaded = load(file, [], Preference)
    before = {path: path.stat().st_mtime_ns for path in (loaded.config.folder / "images").iterdir()}
    assert len(before) == PROMPTS
    create(loaded)
    after = {path: path.stat().st_mtime_ns for path in (loaded.config.folder / "images").iterdir()}
    assert len(after) == 3 * PROMPTS
    assert before.items() <= after.items()


def test_study_cannot_change_but_raters_can_be_invited(
    created: Created, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, _ = created("raters=2")
    path = loaded.config.folder / "raters.csv"
    tokens = read_tokens(path)
    assert len(set(tokens)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    created("raters=4", "checks.allowed_failures=0")
    assert read_tokens(path)[:2] == tokens
    assert len(set(read_tokens(path))) == 4
    with path.open(newline="") as rows:
        assert next(csv.reader(rows)) == ["token"]
    capsys.readouterr()
    for verb, override, problem in (
        ("create", "seed=1", "seed: test was created with 0, not 1"),
        ("serve", "checks.noise=2", "checks.noise: test was created with 1, not 2"),
        ("report", "subjects.a.init_args.name=x", "subjects.a.init_args.name: test was created with"),
    ):
        assert main(["preference", verb, str(file), override]) == 2
        error = capsys.readouterr().err
        assert problem in error
        assert "give this study another name: preference=NAME" in error
        assert error.count("\n") == 1
    (tmp_path / "prompts.txt").write_text("other\n" * PROMPTS)
    assert main(["preference", "create", str(file)]) == 2
    assert "prompts: test was created with other prompts" in capsys.readouterr().err


def test_changed_folder_does_not_change_the_study(created: Created, tmp_path: Path) -> None:
    _, store = created()
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    _, again = created()
    assert again.images() == store.images()
