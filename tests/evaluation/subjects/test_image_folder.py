"""Tests for a folder of existing images as the subject of an evaluation."""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.image_folder import ImageFolder
from pocketdit.errors import ConfigError, UserError

PROMPTS = PromptSet("three", tuple(Prompt(f"{i:05d}", f"text {i}") for i in range(3)), images_each=2)


def write(folder: Path, files: Iterable[str], value: int = 0) -> None:
    """Write images of one gray value."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value,) * 3).save(folder / name)


def names(folder: Path, prompts: PromptSet = PROMPTS) -> dict[str, list[str]]:
    """Return the image paths of every prompt, relative to the folder."""
    images = ImageFolder(folder).images(prompts, folder / "unused").images
    return {name: [str(path.relative_to(folder)) for path in paths] for name, paths in images.items()}


@pytest.mark.parametrize("layout", ["{id}/0.png", "{id}/samples/0000.png", "{id}.png", "{id}.PNG", "{id}/0000.JPEG"])
def test_images_are_matched_by_id(layout: str, tmp_path: Path) -> None:
    for value, name in ((200, "00002"), (0, "00000"), (100, "00001")):
        write(tmp_path, [layout.format(id=name)], value)
    images = ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")
    assert [int(open_image(images.images[p.id][0])[0, 0, 0]) for p in PROMPTS.prompts] == [0, 100, 200]
    (tmp_path / layout.format(id="00001")).unlink()
    with pytest.raises(UserError, match=r"no images for 1 of 3 prompts of three \(00001\); put them into .*/00001/"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")


def test_prompt_sets_with_the_same_ids_need_folders_of_their_own(tmp_path: Path) -> None:
    """With a shared folder, an image of one prompt would also be scored against another prompt."""
    ids = [prompt.id for prompt in PROMPTS.prompts]
    other = PromptSet("other", tuple(Prompt(name, f"other text {name}") for name in ids), images_each=1)
    write(tmp_path, [f"{name}.png" for name in ids], 10)
    subject = ImageFolder(tmp_path)
    subject.images(PROMPTS, tmp_path)
    subject.images(PROMPTS, tmp_path)  # several metrics may use the same prompts
    with pytest.raises(UserError, match=r"two prompts, 'text 0' of three and 'other text 00000' of other; .*/other/"):
        subject.images(other, tmp_path)
    write(tmp_path, [f"other/{name}.png" for name in ids], 20)
    for prompts, value in ((PROMPTS, 10), (other, 20)):
        images = subject.images(prompts, tmp_path).images
        assert [int(open_image(images[name][0])[0, 0, 0]) for name in ids] == [value] * 3


def test_only_files_of_the_layout_are_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Grids, hidden files, thumbnails and backups have other names or are in other folders."""
    write(tmp_path, [f"{i:05d}/samples/000{n}.png" for i in range(3) for n in range(2)])
    expected = {f"{i:05d}": [f"{i:05d}/samples/000{n}.png" for n in range(2)] for i in range(3)}
    assert names(tmp_path) == expected
    made = ImageFolder(tmp_path).images(PROMPTS, tmp_path).provenance
    capsys.readouterr()
    write(tmp_path, [
        "00000/grid.png", "00001/samples/.0000.png", "00001/samples/._0001.png", "00001/.thumbnails/0000.png",
        "00002/samples/0000 copy.png", "00002/samples/0000-1.png", "00002/samples/mask/0000.png", ".00000/0000.png",
        ".00001.png", "grid.png", "00003/0000.png",
    ], 9)  # fmt: skip
    assert names(tmp_path) == expected
    assert "3 image files, such as 00000/grid.png, are not scored because their names are not numbers" in (
        capsys.readouterr().out
    )
    assert ImageFolder(tmp_path).images(PROMPTS, tmp_path).provenance == made


def test_numbers_and_ids_may_have_any_padding(tmp_path: Path) -> None:
    write(tmp_path, [*(f"0/{n}.png" for n in range(11)), *(f"01/{n:06d}.jpg" for n in range(11))])
    write(tmp_path, [f"0000002/samples/{n:02d}.Png" for n in range(11)])
    found = names(tmp_path)
    assert found["00000"] == [f"0/{n}.png" for n in range(11)]
    assert found["00001"] == [f"01/{n:06d}.jpg" for n in range(11)]
    assert found["00002"] == [f"0000002/samples/{n:02d}.Png" for n in range(11)]
    named = PromptSet("named", (Prompt("color-0007", "x"), Prompt("COCOval2014000000000042", "y")))
    write(tmp_path, ["color-7.png", "COCOval2014000000000042.png"])
    assert names(tmp_path, named) == {
        "color-0007": ["color-7.png"],
        "COCOval2014000000000042": ["COCOval2014000000000042.png"],
    }
    padded = PromptSet("padded", (Prompt("7", "x"), Prompt("07", "y")))
    write(tmp_path, ["7.png", "07.png"])
    assert names(tmp_path, padded) == {"7": ["7.png"], "07": ["07.png"]}


@pytest.mark.parametrize(
    ("name", "other"), [("v1.5", "v1.05"), ("a0b1", "a00b1"), ("9f0e", "09f0e"), ("scale-0.5", "scale-0.05")]
)
def test_zeros_in_decimals_and_hashes_are_not_padding(name: str, other: str, tmp_path: Path) -> None:
    prompts = PromptSet("one", (Prompt(name, "x"),))
    write(tmp_path, [f"{other}.png"])
    with pytest.raises(UserError, match="no images for 1 of 1 prompts"):
        names(tmp_path, prompts)
    write(tmp_path, [f"{name}.png"])
    assert names(tmp_path, prompts) == {name: [f"{name}.png"]}


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.parametrize("layout", ["{}.png", "{}/0000.png"])
def test_names_match_in_any_unicode_normalization(
    stored: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"], layout: str, tmp_path: Path
) -> None:
    write(tmp_path, [layout.format(unicodedata.normalize(stored, "crème brûlée"))])
    name = unicodedata.normalize(asked, "crème brûlée")
    assert len(names(tmp_path, PromptSet("one", (Prompt(name, "x"),)))[name]) == 1


@pytest.mark.parametrize("link", ["a/0001.png", "a/samples/0001.png", "a.png"])
def test_links_to_missing_files_are_an_error(link: str, tmp_path: Path) -> None:
    """An image whose link is broken would otherwise be left out silently."""
    write(tmp_path, ["a/0000.png", "real.png"])
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "missing.png")
    with pytest.raises(UserError, match=f"{link}: is a link to a file that does not exist"):
        names(tmp_path, PromptSet("one", (Prompt("a", "x"),)))
    (tmp_path / link).unlink()
    (tmp_path / "a" / "0001.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "stray.png").symlink_to(tmp_path / "missing.png")  # this broken link belongs to no prompt
    assert names(tmp_path, PromptSet("one", (Prompt("a", "x"),))) == {"a": ["a/0000.png", "a/0001.png"]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["00000/0.png", "00000/00.png"], "00000/0.png and .*00000/00.png have the same number"),
        (["00000/0.png", "00000/0.jpg"], "have the same number"),
        (["00000/0.png", "00000/samples/0.png"], "two places, .*00000/0.png and .*00000/samples/0.png"),
        (["00000/0.png", "0/0.png"], "two places"),
        (["00000/0.png", "00000.png"], "two places"),
        (["00000.png", "00000.jpg"], "two places"),
    ],
)
def test_two_candidates_for_an_image_are_an_error(files: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path, [*files, "00001/0.png", "00002/0.png"])
    with pytest.raises(UserError, match=f"prompt 00000.*{message}"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path)


def test_images_with_other_names_are_named(tmp_path: Path) -> None:
    write(tmp_path, [f"{i:05d}/seed_{n}.png" for i in range(3) for n in range(2)])
    with pytest.raises(
        UserError, match=r"the name of .*00000/seed_0.png is not a number; rename it to .*00000/0000.png"
    ):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path)


METADATA = {
    "tag": "counting",
    "include": [{"class": "dog", "count": 2}],
    "exclude": [{"class": "dog", "count": 3}],
    "prompt": "two dogs",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"seed": 3}, None),
        ({"prompt": "two cats"}, "prompt is 'two cats', but prompt 00000 of the prompt set has 'two dogs'"),
        ({"tag": "colors"}, "tag is 'colors'"),
        ({"include": [{"class": "dog", "count": 3}]}, "include is .*3.* has .*2"),
        ({"exclude": [{"class": "dog", "count": 4}]}, r"exclude is .*4.* has .*3"),
        ({"exclude": []}, r"exclude is \[\], but .* has .*3"),
        ({"exclude": None}, r"exclude is \[\], but .* has .*3"),  # the line has no "exclude"
        ({"tag": None}, None),
    ],
)
def test_metadata_must_agree_with_the_prompts(changes: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    prompts = PromptSet("geneval", (Prompt("00000", "two dogs", METADATA),))
    write(tmp_path, ["00000/samples/0000.png"])
    row = {key: value for key, value in {**METADATA, **changes}.items() if value is not None}
    (tmp_path / "00000" / "metadata.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8-sig")
    if message is None:
        assert names(tmp_path, prompts) == {"00000": ["00000/samples/0000.png"]}
        return
    with pytest.raises(UserError, match=rf"00000/metadata\.jsonl: {message}"):
        ImageFolder(tmp_path).images(prompts, tmp_path)


def test_excluded_objects_must_be_those_of_the_prompts(tmp_path: Path) -> None:
    """The prompt's text is the same, but the image would be judged by rules that differ from the folder's metadata."""
    prompts = PromptSet("geneval", (Prompt("0", "two dogs", {**METADATA, "exclude": []}),))
    write(tmp_path, ["0/samples/0000.png"])
    (tmp_path / "0" / "metadata.jsonl").write_text(json.dumps(METADATA))
    with pytest.raises(UserError, match=r"exclude is .*3.*, but prompt 0 of the prompt set has \[\]"):
        names(tmp_path, prompts)


def test_lines_of_metadata_end_only_at_line_feeds(tmp_path: Path) -> None:
    """Other characters that Python treats as line breaks may occur in JSON strings."""
    write(tmp_path, ["0/0000.png"])
    text = "two dogs\u2028and\x85a cat"
    (tmp_path / "0" / "metadata.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=False), encoding="utf-8")
    assert names(tmp_path, PromptSet("one", (Prompt("0", text),))) == {"0": ["0/0000.png"]}


def test_damaged_metadata_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, ["00000/samples/0000.png"])
    for content in (b'{"prompt": ', b'{"prompt": "caf\xe9"}', b"[1]", b'"two dogs"'):
        (tmp_path / "00000" / "metadata.jsonl").write_bytes(content)
        with pytest.raises(UserError, match=r"00000/metadata\.jsonl: "):
            ImageFolder(tmp_path).images(PromptSet("one", (Prompt("00000", "two dogs"),)), tmp_path)


def test_the_provenance_depends_on_the_images(tmp_path: Path) -> None:
    """Changing or swapping images changes the provenance, whereas writing the same image again does not."""
    write(tmp_path, ["00000.png"], 10)
    write(tmp_path, ["00001.png"], 20)
    write(tmp_path, ["00002.png"], 30)

    def digest() -> Any:
        return ImageFolder(tmp_path).images(PROMPTS, tmp_path).provenance["images_sha256"]

    first = digest()
    write(tmp_path, ["00001.png"], 20)
    assert digest() == first
    (tmp_path / "00000.png").rename(tmp_path / "x.png")
    (tmp_path / "00001.png").rename(tmp_path / "00000.png")
    (tmp_path / "x.png").rename(tmp_path / "00001.png")
    exchanged = digest()
    write(tmp_path, ["00002.png"], 31)
    assert len({first, exchanged, digest()}) == 3


def test_prompts_need_the_same_number_of_images(tmp_path: Path) -> None:
    write(
        tmp_path,
        [f"{name}/{n}.png" for name, count in (("00000", 2), ("00001", 1), ("00002", 2)) for n in range(count)],
    )
    with pytest.raises(UserError, match=r"between 1 and 2 images per prompt \(fewest for 00001\)"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        ImageFolder(tmp_path / "none")
