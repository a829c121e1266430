"""Tests that every file in a user's folder is either used or reported, and that the user's splits are kept."""

import os
from pathlib import Path

import pytest
from PIL import Image

from datamodules.imports.build import build_dataset
from datamodules.shards.stats import describe_dataset
from pocketdit.errors import UserError
from tests.datamodules.imports.user_folder import build, write


@pytest.mark.parametrize("suffix", ["avif", "gif", "jfif", "jpe", "apng", "tiff", "BMP"])
def test_image_with_another_suffix_is_used(source: Path, suffix: str) -> None:
    write(source, ["b.png"], {"a.txt": "a cat", "b.txt": "a dog"})
    kind = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "BMP": "BMP"}.get(suffix, suffix)
    Image.new("RGB", (32, 32), (200, 100, 50)).save(source / f"a.{suffix}", format=kind)
    _, samples = build(source, validation_fraction=0.0)
    assert samples["train"][f"a.{suffix}"].captions == ("a cat",)


def test_every_file_is_accounted_for(source: Path) -> None:
    write(source, ["a.png"], {"a.txt": "a cat", "b.txt": "of no image", "labels.csv": "x\n", "b.svg": "<svg/>"})
    for name in ("c.svg", "c.heic", ".DS_Store", "README"):
        (source / name).write_bytes(b"x")
    Image.new("RGB", (32, 32)).save(source / "d.gif", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    (source / "d.txt").write_text("moves")
    os.mkfifo(source / "pipe.png")
    (source / "gone.png").symlink_to(source / "nowhere.png")
    report, samples = build(source, validation_fraction=0.0)
    assert samples["train"].keys() == {"a.png", "d.gif"}
    assert [str(entry) for entry in report.skipped] == [
        "pipe.png: neither a file nor a folder",
        "gone.png: a link to a file that does not exist",
    ]
    text = str(report)
    assert "note: other files, which are not read: 6 (2 .svg, 1 without a suffix, 1 .txt, 1 .heic, 1 .csv)" in text
    assert "note: labels.csv is not read as a caption table because of its name" in text
    assert "note: files and folders that are not read because their names start with a dot: 1" in text
    assert "note: images with several frames, of which only the first is stored: 1 (such as d.gif with 2)" in text


def test_linked_folders_are_read_once(tmp_path: Path, source: Path) -> None:
    write(tmp_path / "elsewhere", ["b.png"], {"b.txt": "a dog", "captions.csv": "file,caption\nc.png,a fish\n"})
    write(tmp_path / "elsewhere", ["c.png"])
    write(source, ["a.png"], {"a.txt": "a cat"})
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "loop").symlink_to(source)
    (source / "again").symlink_to(tmp_path / "elsewhere")
    report, samples = build(source, validation_fraction=0.0)
    found = {name: sample.captions[0] for name, sample in samples["train"].items()}
    assert found == {"a.png": "a cat", "again/b.png": "a dog", "again/c.png": "a fish"}
    assert {entry.id for entry in report.skipped} == {"linked", "loop"}


def test_output_inside_the_source_is_not_read(source: Path) -> None:
    write(source, ["a.png"], {"a.txt": "a cat"})
    for _ in range(2):
        report = build_dataset(source, source / "out", overwrite=True, progress=False)
        assert not any("other files" in note for note in report.notes)


@pytest.mark.parametrize(
    ("train", "validation", "left_out"),
    [
        ("train", "val", None),
        ("Train", "valid", None),
        ("training", "validation", None),
        ("train2017", "val2017", None),
        ("train", "test", None),
        ("train", "dev", "test"),
        ("train_set", "val-split", "TestImages"),
        ("training_data", "test_data", None),
        ("images/train", "images/val", "images/test"),
        ("a/b/train", "a/b/valid", None),
    ],
)
def test_own_folders_are_the_splits(source: Path, train: str, validation: str, left_out: str | None) -> None:
    for folder in filter(None, (train, validation, left_out)):
        names = [f"{folder}/{number}.png" for number in range(6)] + [f"{folder}/deeper/x.png"]
        write(source, names, {name.replace(".png", ".txt"): "a caption" for name in names})
    write(source, ["loose.png"], {"loose.txt": "a caption"})
    report, samples = build(source)
    assert all(name.startswith(f"{train}/") for name in samples["train"])
    assert all(name.startswith(f"{validation}/") for name in samples["validation"])
    assert len(samples["train"]) == len(samples["validation"]) == 7
    assert len([entry for entry in report.skipped if entry.id.startswith(f"{left_out}/")]) == 7 * bool(left_out)
    assert any(entry.id == "loose.png" and "left out: outside " in entry.reason for entry in report.skipped)
    (note,) = [note for note in report.notes if note.startswith("splits are the folders of the source: ")]
    assert f"{train}/ for training" in note
    assert f"{validation}/ for validation" in note
    with pytest.raises(UserError, match="splits are the folders of the source"):
        build(source, validation_fraction=0.2, overwrite=True)


@pytest.mark.parametrize(
    "folders", [("train", "cats"), ("val", "test"), ("cats", "dogs"), ("trains", "tests"), ("a/train", "b/val")]
)
def test_other_folders_are_not_splits(source: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        write(source, [f"{folder}/{i}.png" for i in range(4)], {f"{folder}/{i}.txt": "x" for i in range(4)})
    report, _ = build(source, validation_fraction=0.3)
    assert (report.train + report.validation, report.skipped) == (8, [])


def test_splits_in_several_folders(source: Path) -> None:
    names = [f"{kind}/{split}/{i}.png" for kind in ("cats", "dogs") for split in ("train", "test") for i in range(2)]
    write(source, [*names, "birds/a.png"], {name.replace(".png", ".txt"): "a caption" for name in names})
    report, samples = build(source)
    assert sorted(samples["train"]) == [name for name in sorted(names) if "train" in name]
    assert sorted(samples["validation"]) == [name for name in sorted(names) if "test" in name]
    assert [entry.id for entry in report.skipped] == ["birds/a.png"]


def test_many_files_with_the_same_problem_share_a_line(source: Path) -> None:
    write(source, [f"{i:03d}.png" for i in range(100)], {"099.txt": "a cat"})
    (source / "broken.png").write_bytes(b"not an image")
    (source / "broken.txt").write_text("a dog")
    lines = str(build(source)[0]).splitlines()
    assert lines[0].startswith("skipped 99 (000.png, 001.png, 002.png, 003.png, 004.png, ...): no caption")
    assert lines[1].startswith("skipped broken.png: cannot be decoded")
    assert lines[-1].endswith("1 train, 0 validation samples, 100 skipped")


def test_refusal_counts_the_images_and_names_what_is_not_read(source: Path) -> None:
    write(source, ["a.png", "b.png"], {"labels.csv": "file,caption\na.png,x\n", "captions.csv": "file,text\nc.png,x\n"})
    with pytest.raises(UserError, match=r"none of the 2 images is usable for training; .*: a.png: no caption") as error:
        build(source)
    assert "labels.csv is not read as a caption table because of its name" in str(error.value)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/s\xfc"))
    write(source, ["a.png"], {"a.txt": "a cat"})
    for name in (b"caf\xe9", b"line\nbreak", "日本".encode()):
        stem = os.fsencode(source) + b"/" + name
        Path(os.fsdecode(stem + b".png")).write_bytes((source / "a.png").read_bytes())
        Path(os.fsdecode(stem + b".txt")).write_text("a name")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.png")).write_bytes(b"not an image")
    report, samples = build(source, validation_fraction=0.0)
    assert samples["train"].keys() == {"a.png", "caf\\xe9.png", "line\\nbreak.png", "日本.png"}
    str(report).encode()
    assert [entry.id for entry in report.skipped] == ["\\xff.png"]


@pytest.mark.parametrize("limits", [{}, {"max_crop": 0.9}, {"max_enlargement": 4.0}])
def test_losses_of_cropping_and_scaling_are_reported_and_limited(source: Path, limits: dict[str, float]) -> None:
    write(source, ["fine.png"], {f"{name}.txt": "x" for name in ("fine", "wide", "dot")}, size=(128, 128))
    write(source, ["wide.png"], size=(4000, 20))
    write(source, ["dot.png"], size=(1, 1))
    report, samples = build(source, validation_fraction=0.0, **limits)
    kept = {
        "": {"fine.png", "wide.png", "dot.png"},
        "max_crop": {"fine.png", "dot.png"},
        "max_enlargement": {"fine.png", "wide.png"},
    }[list(limits)[-1] if limits else ""]
    assert samples["train"].keys() == kept
    (note,) = [note for note in report.notes if "aspect buckets of base size 128" in note]
    if "wide.png" in kept:
        # The widest bucket is 256x64, so 80 of 4000 columns remain.
        assert "at most 98.0% (wide.png, 20x4000), and more than 50% of 1 images" in note
    else:
        assert any(entry.id == "wide.png" and "--max-crop 0.9" in entry.reason for entry in report.skipped)
    if "dot.png" in kept:
        assert "the largest factor is 128 (dot.png, 1x1)" in note
    if not limits:
        assert note in describe_dataset(source.parent / "out")
        assert "more than 99% of 0 images; 1 of 3 images are enlarged by a factor of more than 100" in describe_dataset(
            source.parent / "out", max_crop=0.99, max_enlargement=100
        )
