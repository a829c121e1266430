"""Tests that each error in a source is reported with its file and row or member, and that all other data is used."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.captions.fields import Field
from datamodules.filters.limits import Filters
from datamodules.imports.build import build_dataset
from datamodules.imports.entries import ReadOptions
from datamodules.imports.layouts import LayoutName
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, UserError
from tests.datamodules.imports import layout_sources as sources
from tests.datamodules.imports.layout_sources import image_bytes, write_tar
from tests.datamodules.imports.test_layouts import read_back


def build(source: Path, **options: Any) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """Build a data set. Return the reason and rule of each skipped entry, and the IDs of the samples."""
    out = (source if source.is_dir() else source.parent).parent / "out"
    report = build_dataset(source, out, progress=False, **options)
    return {entry.id: (entry.reason, entry.rule) for entry in report.skipped}, set(read_back(out))


def test_broken_members_of_a_tar(source: Path) -> None:
    good = image_bytes(1)
    write_tar(
        source / "a.tar",
        {
            "0.png": good,
            "0.txt": b"fine",
            "1.png": good,
            "2.txt": b"alone",
            "3.png": b"not an image",
            "3.txt": b"x",
            "4.png": good,
            "4.json": b"{",
            "5.png": good,
            "5.txt": b"\xff",
            "0.jpg": good,
            "0.caption": b"the key again",
            "6.png": good,
            "6.json": b'{"url": "x"}',
            "7.png": good,
            "7.json": b'{"url": "x"}',
            "7.txt": b"the text counts",
            "8.png": good[: len(good) // 2],
            "8.txt": b"cut",
        },
    )
    skipped, kept = build(source, validation_fraction=0.0)
    assert kept == {"a.tar/0", "a.tar/7"}
    assert skipped["a.tar/1"] == ("the members contain no caption: png", "no caption")
    assert skipped["a.tar/2"] == ("the members contain no image: txt", "no image")
    assert skipped["a.tar/3"] == ("cannot be decoded (unknown image format)", "cannot be decoded")
    assert skipped["a.tar/4"][0].startswith("json cannot be read")
    assert skipped["a.tar/5"][0].startswith("txt cannot be read")
    assert skipped["a.tar/6"][0].startswith("json: the key 'caption' (or 'text' or 'captions') is missing or empty")
    assert skipped["a.tar/8"][1] == "cannot be decoded"
    assert skipped["a.tar/0"] == ("an earlier sample of the tar has the same key", "repeated key")


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "zeros", "missing", "folder"])
def test_broken_tar_is_named_and_the_others_are_used(source: Path, damage: str) -> None:
    sources.write_img2dataset(source)
    tar = source / "00001.tar"
    content = tar.read_bytes()
    tar.unlink()
    match damage:
        case "cut":
            tar.write_bytes(content[:3000])
        case "header":
            start = content.index(b"000010001.jpg")  # the tar header of the second sample
            tar.write_bytes(content[:start] + b"\x01" * 512 + content[start + 512 :])
        case "empty":
            tar.write_bytes(b"")
        case "zeros":  # a valid tar without members
            tar.write_bytes(bytes(10_240))
        case "missing":
            tar.symlink_to(source / "nowhere.tar")
        case "folder":
            tar.mkdir()
    skipped, kept = build(source, validation_fraction=0.0)
    assert {f"00000.tar/00000{i:04d}" for i in range(3)} <= kept
    if damage != "folder":
        assert "00001.tar" in skipped
    if damage == "zeros":
        assert skipped["00001.tar"] == ("contains no sample", "broken tar")
    if damage in ("cut", "header", "empty"):
        assert skipped["00001.tar"][1] == "broken tar"
        assert "byte" in skipped["00001.tar"][0]


def test_broken_rows_of_parquet(source: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [
        {"bytes": image_bytes(0), "path": None},
        {"bytes": None, "path": None},
        {"bytes": b"x", "path": "x.png"},
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": image_bytes(1), "path": None},
        {"bytes": None, "path": "/dev/zero"},
        None,
    ]
    texts = ["a", "b", "c", "d", "e", None, "f", "g"]
    pq.write_table(pa.table({"image": pa.array(images, kind), "text": texts}), source / "x.parquet")
    (source / "beside.png").write_bytes(image_bytes(3))
    skipped, kept = build(source, layout="parquet", validation_fraction=0.0)
    assert kept == {"x.parquet/0", "x.parquet/3"}
    assert skipped["x.parquet/1"] == ("image contains no image", "no image")
    assert skipped["x.parquet/2"][1] == "cannot be decoded"
    assert skipped["x.parquet/4"][0].endswith("gone.png is not a file")
    assert skipped["x.parquet/5"][1] == "no caption"
    assert skipped["x.parquet/6"][0] == "/dev/zero is not a file"
    assert skipped["x.parquet/7"][1] == "no image"


def test_damaged_rows_of_parquet_are_named(source: Path) -> None:
    sources.write_hugging_face_parquet(source)
    path = source / "data" / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    (source / "data" / "train-2.parquet").write_bytes(content)
    content[4:60] = bytes(56)  # overwrite the first page
    path.write_bytes(content)
    skipped, kept = build(source)
    assert len(kept) == 7
    reason, rule = skipped["data/train-00000-of-00001.parquet"]
    assert reason.startswith("rows 0 to 4 cannot be read")
    assert rule == "broken Parquet file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,caption\na.png,x\n,y\n", r"list.csv: line 3: the column 'file' .* is missing or empty"),
        ("path,caption\na.png,x,z\n", r"list.csv: line 2: 3 cells, but there are 2 columns"),
        ("path,title\na.png,x\n", r"list.csv: the column 'caption' \(or 'text' or 'captions'\) is missing"),
        ("where,caption\na.png,x\n", r"list.csv: the column 'file' .* is missing; the columns are: where, caption"),
        ('path,caption\na.png,"x\n', r"list.csv: line 2: the double quotes do not match"),
    ],
)
def test_mistakes_in_a_table_are_refused_with_the_line(source: Path, text: str, message: str) -> None:
    (source / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        build(source / "list.csv")
    assert not list((source.parent / "out").rglob("*.tar"))


def test_unusable_rows_of_a_table_are_named(source: Path) -> None:
    (source / "a.png").write_bytes(image_bytes(0))
    (source / "list.csv").write_text("path,caption\na.png,fine\ngone.png,x\na.png,\n/dev/zero,x\n../../etc/passwd,x\n")
    skipped, kept = build(source / "list.csv", validation_fraction=0.0)
    assert kept == {"list.csv/2"}
    assert skipped["list.csv/3"][0].endswith("source/gone.png is not a file")
    assert skipped["list.csv/4"] == ("the caption is empty", "no caption")
    assert skipped["list.csv/5"] == ("/dev/zero is not a file", "cannot be decoded")
    assert skipped["list.csv/6"][1] == "cannot be decoded"


def test_images_of_coco_that_are_missing_or_have_no_caption(source: Path) -> None:
    sources.write_coco(source)
    (source / "train2017" / "000000000401.jpg").unlink()
    path = source / "annotations" / "captions_train2017.json"
    content = json.loads(path.read_bytes())
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 402]
    path.write_text(json.dumps(content))
    skipped, kept = build(source)
    assert len(kept) == 4
    assert skipped["captions_train2017.json: 000000000401.jpg"] == ("the image file does not exist", "missing file")
    assert skipped["train2017/000000000402.jpg"][0] == "captions_train2017.json contains no caption for the image"


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'])
def test_damaged_annotations_are_named(source: Path, content: str) -> None:
    sources.write_coco(source)
    (source / "annotations" / "captions_val2017.json").write_text(content)
    with pytest.raises(UserError, match=r"captions_val2017.json: cannot be read as COCO captions \("):
        build(source)


def test_imagenet_without_labels_of_the_validation_images(source: Path) -> None:
    sources.write_imagenet_tars(source)
    (source / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    skipped, kept = build(source)
    assert len(kept) == 9
    assert skipped["val/ILSVRC2012_val_00000001"][0].startswith("the class is unknown (move it to a class folder")


def test_classes_of_validation_images_from_a_table(source: Path) -> None:
    expected = sources.write_imagenet_tars(source)
    (source / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    rows = "ILSVRC2012_val_00000001,n03126707 1 2 3 4 n03126707 5 6 7 8\nILSVRC2012_val_00000002,n01440764 1 2 3 4\n"
    (source / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{rows}")
    assert build(source)[1] == expected.keys()


@pytest.mark.parametrize("size", [2000, 12_000])
def test_truncated_tar_of_imagenet_is_refused(source: Path, size: int) -> None:
    sources.write_imagenet_tars(source)
    path = source / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train.tar.*; download it again"):
        build(source)


@pytest.mark.parametrize("tar", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_damaged_header_in_a_tar_of_imagenet_is_refused(source: Path, tar: str) -> None:
    """Python's ``tarfile`` interprets a damaged header as the end of the tar."""
    sources.write_imagenet_tars(source)
    content = (source / tar).read_bytes()
    start = content.index(b"n02123045_1.JPEG" if "train" in tar else b"ILSVRC2012_val_00000002.JPEG")
    (source / tar).write_bytes(content[:start] + b"\x01" * 512 + content[start + 512 :])
    with pytest.raises(UserError, match=rf"{tar}.*: cannot be read from byte \d+ onward \(damaged: not a tar header\)"):
        build(source)


def test_class_names_and_template(source: Path) -> None:
    sources.write_class_folders(source)
    names = source.parent / "names.txt"
    names.write_text("n01440764 Schleie, Tinca tinca\nn02123045\tTigerkatze\n")
    reading = ReadOptions(class_names=names, template="ein Bild: {}.")
    skipped, kept = build(source, reading=reading)
    captions = {sample.captions for sample in read_back(source.parent / "out").values()}
    assert captions == {("ein Bild: Schleie.",), ("ein Bild: Tigerkatze.",)}
    assert {reason for reason, _ in skipped.values()} == {"the class n03126707 has no name"}
    assert len(kept) == 8


def test_folders_without_wordnet_ids_name_their_class(source: Path) -> None:
    for name in ("golden_retriever/a.png", "cat/b.png"):
        (source / name).parent.mkdir()
        (source / name).write_bytes(image_bytes(len(name)))
    _, kept = build(source, layout="imagenet", validation_fraction=0.0)
    assert kept == {"golden_retriever/a.png", "cat/b.png"}
    captions = {sample.captions for sample in read_back(source.parent / "out").values()}
    assert captions == {("a photo of a golden retriever",), ("a photo of a cat",)}


@pytest.mark.parametrize(
    ("prepare", "layout", "reading", "message"),
    [
        (sources.write_coco, "tars", ReadOptions(), "contains no .tar file"),
        (sources.write_coco, "table", ReadOptions(), "pass the path of the table itself"),
        (
            sources.write_coco,
            None,
            ReadOptions(image_field=Field("x")),
            "--image-field applies only to the layout tars",
        ),
        (
            sources.write_img2dataset,
            None,
            ReadOptions(template="{}"),
            "--template applies only to the layout imagenet",
        ),
        (
            sources.write_class_folders,
            None,
            ReadOptions(template="a photo"),
            "--template 'a photo': must contain {} exactly once",
        ),
        (
            sources.write_hugging_face_parquet,
            None,
            ReadOptions(caption_fields=(Field("title"),)),
            "the column 'title' is missing; the columns are: image, text, score",
        ),
        (
            lambda source: (sources.write_coco(source), sources.write_img2dataset(source)),
            None,
            ReadOptions(),
            "contains data in several layouts; choose one with --layout: tars, coco",
        ),
    ],
)
def test_wrong_choices_are_refused(
    source: Path, prepare: Callable[[Path], object], layout: LayoutName | None, reading: ReadOptions, message: str
) -> None:
    prepare(source)
    with pytest.raises(UserError, match=message.replace("{", r"\{")):
        build(source, layout=layout, reading=reading)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "aesthetic >"], "--where 'aesthetic >': cannot be read"),
        (["--where", "f(x)"], "--where 'f(x)': 'f(x)' is not allowed; write comparisons such as"),
        (["--min-side", "0"], "--min-side 0: must be at least 1"),
        (["--max-aspect", "0.5"], "--max-aspect 0.5: must be at least 1"),
        (["--min-words", "9", "--max-words", "3"], "--min-words 9: must not exceed --max-words 3"),
        (["--drop-duplicates", "20"], '--drop-duplicates 20: must be "exact" or a number of bits from 0 to 15'),
        (["--workers", "0"], "--workers 0: must be at least 1"),
        (["--image-field", "json:x"], "--image-field json:x: an image cannot be stored under a key"),
        (["--caption-field", "json:"], "--caption-field json:: write the name of a member or column"),
    ],
)
def test_wrong_options_are_refused_with_exit_status_2(
    source: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["data", "build", str(source), str(source.parent / "out"), *words]) == ConfigError.status
    assert message in capsys.readouterr().err


def test_command_reads_tars_with_a_mapping(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = sources.write_webdataset(source)
    out = source.parent / "out"
    words = ["--image-field", "input.png", "--caption-field", "meta.json:texts.short"]
    assert main(["data", "build", str(source), str(out), *words, "--workers", "1"]) == 0
    assert {name: sample.captions for name, sample in read_back(out).items()} == {
        name: sample.captions[:1] for name, sample in expected.items()
    }
    assert "note: layout: tars (WebDataset, 3 tars)" in capsys.readouterr().out


def test_missing_package_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    (source / "a.png").write_bytes(image_bytes(1))
    (source / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"imagehash; install it with: pip install 'pocketdit\[import\]'"):
        build_dataset(source, source.parent / "out", filters=Filters(duplicates=3), progress=False)
