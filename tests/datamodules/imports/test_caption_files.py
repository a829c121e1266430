"""Tests that every caption in a user's folder is kept in full, or that the report explains why not."""

import json
from pathlib import Path

import pytest

from datamodules.imports.entries import ReadOptions
from pocketdit.errors import UserError
from tests.datamodules.imports.user_folder import build, captions, write


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "captions.csv",
            "file,caption\nq.png,a dog\np.png,a red circle, left of a blue square\n",
            r"captions\.csv: line 3: 3 cells, but there are 2 columns; enclose captions that contain ',' in double",
        ),
        ("captions.tsv", "file\tcaption\np.png\ta\tb\n", r"captions\.tsv: line 2: 3 cells, but there are 2 columns"),
        ("sub/metadata.csv", "file_name;text\np.png;a; b\n", r"metadata\.csv: line 2: 3 cells"),
        ("captions.csv", 'file,caption\np.png,"a red circle\nq.png,a dog\n', "the double quotes do not match"),
        ("captions.csv", 'file,caption\np.png,"a" b\nq.png,"x"\n', "line 2: the double quotes do not match"),
        ("captions.csv", "p.png,a dog\n", "the column 'file' .* is missing; the columns are: p.png, a dog"),
        ("metadata.jsonl", '{"file_name": "p.png", "text": "a"}\n{"file_name"\n', "line 2: not valid JSON"),
        (
            "metadata.jsonl",
            '{"name": "p.png", "text": "a"}',
            "line 1: the key 'file' .* is missing or empty; .*: name, text",
        ),
        ("metadata.jsonl", '{"file_name": null, "text": "a"}', "line 1: the key 'file' .* is missing or empty"),
        ("metadata.jsonl", '{"file_name": 3, "text": "a"}', "line 1: 3 is not the name of a file"),
        ("captions.csv", "file,caption,caption\np.png,a,b\n", "the column 'caption' appears twice"),
        ("captions.csv", "file,caption\np.png,a\0 \0d\0\n", "null characters; save the file as UTF-8"),
        ("captions.csv", "file,caption\np.png,caf\udce9\n", "decode byte 0xe9 .*; save the file as UTF-8"),
        ("metadata.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        (
            "metadata.jsonl",
            '{"file_name": "p.png", "text": "a", "text": "b"}',
            r"line 1: not valid JSON \(the key 'text' occurs twice\)",
        ),
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
    "captions.CSV": '"file";"caption";"size, px"\np.png;a red circle, left of a blue square\nsub/q.png;a dog;3\n',
    "Metadata.csv": '\ufefffile, caption\r\np.png, "a red circle, left of a blue square"\r\n sub/q.png , a dog\r\n',
    "metadata.jsonl": '{"file_name": "p.png", "text": "a red circle, left of a blue square"}\n'
    '{"file_name": "sub/q.png", "captions": "a dog"}\n',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("explicit", [False, True])
def test_tables_of_every_kind(tmp_path: Path, source: Path, name: str, explicit: bool) -> None:
    write(source, ["p.png", "sub/q.png"])
    table = (tmp_path if explicit else source) / name  # a table that is passed explicitly may be in another folder
    table.write_text(TABLES[name])
    found = captions(source, reading=ReadOptions(captions=table if explicit else None))
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
    assert any("images with different captions in several places: 1 (for x/a.png, " in note for note in report.notes)


def test_rows_whose_image_cannot_exist_are_skipped(source: Path) -> None:
    names = ["x" * 300 + ".png", "a\0.png", "\ud800.png", "caf\udce9.png", "../" * 99 + "etc/passwd", "P.PNG", "q.svg"]
    rows = [json.dumps({"file_name": name, "text": "x"}) for name in ("p.png", *names)]
    write(source, ["p.png"], {"metadata.jsonl": "\n".join(rows), "q.svg": "<svg/>"})
    report, samples = build(source)
    assert samples["train"]["p.png"].captions == ("x",)
    gone = "in metadata.jsonl, but the folder does not contain this image"
    assert [(entry.id, entry.reason) for entry in report.skipped] == [
        ("x" * 300 + ".png", gone),
        ("a\\x00.png", gone),
        ("\\ud800.png", gone),
        ("caf\\xe9.png", gone),
        (report.skipped[4].id, "in metadata.jsonl, but files without a suffix are not read"),
        ("P.PNG", gone),
        ("q.svg", "in metadata.jsonl, but .svg files are not read"),
    ]
    str(report).encode()


def test_caption_that_occurs_twice_is_stored_once(source: Path) -> None:
    write(source, ["a.png", "b.png"], {"captions.csv": "file,text\na.png,x\na.png,x y\na.png, x\nb.png,z\nb.png,z\n"})
    assert captions(source) == {"a.png": ("x", "x y"), "b.png": ("z",)}


def test_text_file_is_one_caption_unless_asked(source: Path) -> None:
    text = "A red apple.\n\naf.utf8='n Rooi appel.\n" + "".join(f"l{i}.utf8=x\n" for i in range(8))
    write(source, ["a.png", "b.png"], {"a.txt": text, "b.txt": "one line"})
    report, samples = build(source, validation_fraction=0.0)
    assert samples["train"]["a.png"].captions == (" ".join(text.split()),)
    (note,) = [note for note in report.notes if "several lines" in note]
    assert note.startswith("text files with several lines: 1 of 2 (up to 10 lines, in a.txt)")

    report, samples = build(
        source, validation_fraction=0.0, reading=ReadOptions(captions_per_line=True), overwrite=True
    )
    assert samples["train"]["a.png"].captions == tuple(" ".join(line.split()) for line in text.splitlines() if line)
    assert any("images with more than 8 captions: 1 (up to 10, for a.png)" in note for note in report.notes)


def test_default_caption_is_only_for_images_without_any(source: Path) -> None:
    """An unreadable caption file is still an error, because the image would silently lose its caption."""
    write(source, ["a.png", "b.png", "c.png", "d.png"], {"a.txt": "a cat", "c.txt": "", "d.json": "["})
    report, samples = build(source, validation_fraction=0.0, reading=ReadOptions(default_caption="a zorb"))
    assert {name: sample.captions for name, sample in samples["train"].items()} == {
        "a.png": ("a cat",),
        "b.png": ("a zorb",),
    }
    assert sorted(entry.id for entry in report.skipped) == ["c.png", "d.png"]
    assert 'images without a caption, for which "a zorb" is used: 1' in report.notes


@pytest.mark.parametrize(
    "content", ['{"url": "x"}', "[", '{"caption": ""}', '{"caption": null}', '{"captions": [1]}', "[" * 100_000, ""]
)
def test_json_without_a_caption_does_not_hide_the_text_file(source: Path, content: str) -> None:
    write(source, ["a.png"], {"a.txt": "a cat", "a.json": content})
    report, samples = build(source)
    assert samples["train"]["a.png"].captions == ("a cat",)
    assert any("caption files or rows that are not used: 1 (a.json" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"caption": "a"}', ("a",)),
        ('{"text": "a"}', ("a",)),
        ('{"captions": ["a", "b"]}', ("a", "b")),
        ('{"captions": "a"}', ("a",)),
        ('{"text": ["a", "b"]}', ("a", "b")),
        ('{"captions": ["a", "long", "b"], "text": null, "caption": "b"}', ("b", "a", "long")),
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
    missing = "the key 'caption' (or 'text' or 'captions') is missing or empty"
    assert skipped == {
        "a.png": f"a.json: {missing}; the keys are: url, width",
        "b.png": "captions.csv, line 2: the caption is empty",
        "c.png": f"captions.csv, line 4: {missing}; the keys are: file",
    }


def test_key_that_occurs_twice_in_a_caption_file_is_reported(source: Path) -> None:
    write(source, ["a.png", "b.png"], {"a.json": '{"caption": "a", "caption": "b"}', "b.txt": "fine"})
    (skipped,) = build(source)[0].skipped
    assert str(skipped) == "a.png: a.json cannot be read (the key 'caption' occurs twice)"
