"""A user's folder: every caption is kept whole, and every file is either used or accounted for."""

import os
from pathlib import Path

import pytest
from PIL import Image

from datamodules.shards.build import BuildReport, build_folder
from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import Sample
from datamodules.shards.stats import describe_dataset
from datamodules.shards.validate import validate_dataset
from pocketdit.errors import UserError

Text = dict[str, str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def write(folder: Path, images: list[str], texts: Text | None = None, size: tuple[int, int] = (64, 64)) -> None:
    for number, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 50, 50)).save(folder / name)
    for name, text in (texts or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def build(source: Path, **options: object) -> tuple[BuildReport, dict[str, dict[str, Sample]]]:
    """Build a data set, and return the report and the samples of both splits by id."""
    out = source.parent / "out"
    report = build_folder(source, out, progress=False, **options)  # type: ignore[arg-type]
    assert validate_dataset(out).problems == []
    splits: dict[str, dict[str, Sample]] = {}
    for split in ("train", "validation"):
        reader = ShardReader(load_index(out, split, "image"))
        splits[split] = {sample.id: sample for sample in map(reader.read_sample, range(len(reader.index)))}
    assert (report.train, report.validation) == (len(splits["train"]), len(splits["validation"]))
    return report, splits


def captions(source: Path, **options: object) -> dict[str, tuple[str, ...]]:
    samples = build(source, validation_fraction=0.0, **options)[1]["train"]
    return {name: sample.captions for name, sample in samples.items()}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "captions.csv",
            "file,caption\nq.png,a dog\np.png,a red circle, left of a blue square\n",
            r"captions\.csv: line 3: 3 cells, but there are 2 columns; put captions that contain ',' into double",
        ),
        ("captions.tsv", "file\tcaption\np.png\ta\tb\n", r"captions\.tsv: line 2: 3 cells, but there are 2 columns"),
        ("sub/metadata.csv", "file_name;text\np.png;a; b\n", r"metadata\.csv: line 2: 3 cells"),
        ("captions.csv", 'file,caption\np.png,"a red circle\nq.png,a dog\n', "the double quotes do not match"),
        ("captions.csv", 'file,caption\np.png,"a" b\nq.png,"x"\n', "line 2: the double quotes do not match"),
        ("captions.csv", "p.png,a dog\n", "the column 'file' .* is missing; the columns are: p.png, a dog"),
        ("metadata.jsonl", '{"file_name": "p.png", "text": "a"}\n{"file_name"\n', "line 2: not JSON"),
        ("metadata.jsonl", '{"name": "p.png", "text": "a"}', "line 1: the key 'file' .* is missing; .*: name, text"),
        ("metadata.jsonl", "[" * 100_000, "line 1: not JSON"),
    ],
)
def test_table_that_would_lose_captions_is_refused_with_its_line(
    source: Path, name: str, text: str, message: str
) -> None:
    write(source, ["p.png", "q.png"], {name: text})
    with pytest.raises(UserError, match=message) as error:
        captions(source)
    assert "\n" not in str(error.value)


TABLES = {
    "captions.csv": 'file,caption\np.png,"a red circle, left of a ""blue"" square"\nsub/q.png,a dog\n',
    "captions.tsv": "filename\ttext\np.png\ta red circle, left of a blue square\nsub/q.png\ta dog\n",
    "metadata.csv": "image;caption\np.png;a red circle, left of a blue square\nsub/q.png;a dog\n",
    "metadata.jsonl": '{"file_name": "p.png", "text": "a red circle, left of a blue square"}\n'
    '{"file_name": "sub/q.png", "captions": "a dog"}\n',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("explicit", [False, True])
def test_tables_of_every_kind(tmp_path: Path, source: Path, name: str, explicit: bool) -> None:
    write(source, ["p.png", "sub/q.png"])
    table = (tmp_path if explicit else source) / name  # an explicit table may be in another folder
    table.write_text(TABLES[name])
    found = captions(source, captions=table if explicit else None)
    assert found["p.png"][0].replace('"', "") == "a red circle, left of a blue square"
    assert found["sub/q.png"] == ("a dog",)


def test_tables_of_subfolders_in_the_layout_of_hugging_face(source: Path) -> None:
    write(
        source,
        ["x/a.png", "x/b.png", "y/a.png"],
        {
            "x/metadata.jsonl": '{"file_name": "a.png", "text": "inner"}\n',
            "y/metadata.csv": "file_name,text\na.png,other\n",
            "metadata.jsonl": '{"file_name": "x/a.png", "text": "outer"}\n{"file_name": "x/b.png", "text": "b"}\n',
        },
    )
    report, samples = build(source, validation_fraction=0.0)
    assert {name: sample.captions for name, sample in samples["train"].items()} == {
        "x/a.png": ("inner",),
        "x/b.png": ("b",),
        "y/a.png": ("other",),
    }
    assert any("1 images have different captions in several places; for x/a.png, " in note for note in report.notes)


def test_text_file_is_one_caption_unless_asked(source: Path) -> None:
    text = "A red apple.\n\naf.utf8='n Rooi appel.\n" + "".join(f"l{i}.utf8=x\n" for i in range(8))
    write(source, ["a.png", "b.png"], {"a.txt": text, "b.txt": "one line"})
    report, samples = build(source, validation_fraction=0.0)
    assert samples["train"]["a.png"].captions == (" ".join(text.split()),)
    (note,) = [note for note in report.notes if "several lines" in note]
    assert note.startswith("1 of 2 text files have several lines (up to 10, in a.txt)")

    report, samples = build(source, validation_fraction=0.0, captions_per_line=True, overwrite=True)
    assert samples["train"]["a.png"].captions == tuple(" ".join(line.split()) for line in text.splitlines() if line)
    assert any("1 images have more than 8 captions (up to 10, of a.png)" in note for note in report.notes)


@pytest.mark.parametrize(
    "content", ['{"url": "x"}', "[", '{"caption": ""}', '{"caption": null}', '{"captions": [1]}', "[" * 100_000, ""]
)
def test_json_without_a_caption_does_not_hide_the_text_file(source: Path, content: str) -> None:
    write(source, ["a.png"], {"a.txt": "a cat", "a.json": content})
    report, samples = build(source)
    assert samples["train"]["a.png"].captions == ("a cat",)
    assert any("caption files or rows without use; the first: a.json" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"caption": "a"}', ("a",)),
        ('{"text": "a"}', ("a",)),
        ('{"captions": ["a", "b"]}', ("a", "b")),
        ('{"captions": "a"}', ("a",)),
        ('"a"', ("a",)),
        ('["a", "b"]', ("a", "b")),
    ],
)
def test_json_captions(source: Path, content: str, expected: tuple[str, ...]) -> None:
    write(source, ["a.png"], {"a.json": content})
    assert captions(source) == {"a.png": expected}


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.caption", "a.png.txt", "a.png.json"])
def test_names_of_caption_files(source: Path, name: str) -> None:
    write(source, ["a.png"], {name: '"a cat"' if name.endswith("json") else "a cat"})
    assert captions(source) == {"a.png": ("a cat",)}


def test_missing_captions_are_reported_with_file_and_key(source: Path) -> None:
    write(
        source,
        ["a.png", "b.png", "c.png", "d.png"],
        {"a.json": '{"url": "x", "width": 3}', "captions.csv": "file,caption\nb.png,\n,\nc.png\n", "d.txt": "fine"},
    )
    skipped = {entry.id: entry.reason for entry in build(source)[0].skipped}
    assert skipped == {
        "a.png": "a.json: the key 'caption' (or 'captions' or 'text') is missing; the keys are: url, width",
        "b.png": "captions.csv, line 2: the caption is empty",
        "c.png": "captions.csv, line 4: the key 'caption' (or 'captions' or 'text') is missing; the keys are: file",
    }


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
    assert "note: 6 other files are not read: 2 .svg, 1 without a suffix, 1 .txt, 1 .heic, 1 .csv" in text
    assert "note: labels.csv is not read as a caption table because of its name" in text
    assert "note: 1 files or folders are not read because their names start with a dot" in text
    assert "note: 1 images have several frames, of which only the first is stored: d.gif with 2" in text


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
        report = build_folder(source, source / "out", overwrite=True, progress=False)
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
    ],
)
def test_own_folders_are_the_splits(source: Path, train: str, validation: str, left_out: str | None) -> None:
    for folder in filter(None, (train, validation, left_out)):
        names = [f"{folder}/{number}.png" for number in range(6)] + [f"{folder}/deeper/x.png"]
        write(source, names, {name.replace(".png", ".txt"): "a caption" for name in names})
    write(source, ["loose.png"], {"loose.txt": "a caption"})
    report, samples = build(source)
    assert {name.split("/")[0] for name in samples["train"]} == {train}
    assert {name.split("/")[0] for name in samples["validation"]} == {validation}
    assert len(samples["train"]) == len(samples["validation"]) == 7
    assert len([entry for entry in report.skipped if entry.id.startswith(f"{left_out}/")]) == 7 * bool(left_out)
    assert any(entry.id == "loose.png" and "outside of" in entry.reason for entry in report.skipped)
    (note,) = [note for note in report.notes if note.startswith("splits are the folders of the source: ")]
    assert f"{train}/ for training" in note
    assert f"{validation}/ for validation" in note
    with pytest.raises(UserError, match="splits are the folders of the source"):
        build(source, validation_fraction=0.2, overwrite=True)


@pytest.mark.parametrize("folders", [("train", "cats"), ("val", "test"), ("cats", "dogs")])
def test_other_folders_are_not_splits(source: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        write(source, [f"{folder}/{i}.png" for i in range(4)], {f"{folder}/{i}.txt": "x" for i in range(4)})
    report, _ = build(source, validation_fraction=0.3)
    assert (report.train + report.validation, report.skipped) == (8, [])


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
        assert "at most 98.0 % (wide.png, 20x4000), and more than 50 % of 1 images" in note
    else:
        assert any(entry.id == "wide.png" and "--max-crop 0.9" in entry.reason for entry in report.skipped)
    if "dot.png" in kept:
        assert "at most 128 times (dot.png, 1x1)" in note
    if not limits:
        assert note in describe_dataset(source.parent / "out")
        assert "more than 99 % of 0 images; 1 of 3 images are enlarged more than 100 times" in describe_dataset(
            source.parent / "out", max_crop=0.99, max_enlargement=100
        )
