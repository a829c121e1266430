"""Tests that readers can follow the tutorials to the end. The tests run the pages' commands with shorter settings."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from pocketdit.commands.main import main
from tests.conftest import ROOT
from tests.docs.test_shell_lines import LINES, Line, ours

PAGES = sorted((ROOT / "docs").glob("tutorial_*.md"))
# Arguments that shorten a command, keyed by the words with which the command begins.
SHORT_RUN = [
    "training.max_steps=2",
    "training.validate_every=0",
    "training.sample_every=0",
    "data.init_args.workers=0",
]
SHORTER = {
    ("data", "build", "scenes"): ["--train", "64", "--validation", "16"],
    ("run", "experiments/tiny_decoder.yaml"): SHORT_RUN,
    ("run",): [*SHORT_RUN, "sampling.steps=2"],
    ("evaluate",): ["prompts.captions.init_args.count=8"],
}
PHOTOGRAPHS = {
    "chelsea.png": "the face of a tabby cat",
    "coffee.png": "a cup of coffee on a wooden table",
    "astronaut.png": "an astronaut in an orange suit before a flag",
    "rocket.jpg": "a rocket on its launch pad at night",
    "motorcycle_left.png": "a motorcycle in a garage",
}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def commands(page: Path) -> list[Line]:
    """Return the commands of a page. For the phone tutorial, commands that create the data and the run come first."""
    lines = [line for line in LINES if line.path == page and line.text.startswith("lightning ")]
    if page.stem != "tutorial_phone":
        return lines
    first = commands(page.with_name("tutorial_train.md"))
    return [line for line in first if re.match(r"lightning (data build|run (?!.*--plan))", line.text)] + lines


def write_photographs(folder: Path) -> None:
    """Write five photographs and their captions, which the second tutorial requires."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    folder.mkdir()
    for name, caption in PHOTOGRAPHS.items():
        shutil.copy(data / name, folder / name)
        (folder / name).with_suffix(".txt").write_text(caption)


def copied_settings(text: str) -> dict[str, str]:
    """Return the values that a reader copies from a command's output, keyed by the placeholder that each replaces."""
    if match := re.search(r'^settings for these images: \S+=(\S+) "backbone\.latent_std=\[(.*)\]"$', text, re.M):
        return {"CENTER": match[1], "LATENT_STD": match[2]}
    if match := re.search(r"^bundle +exports/(\S+)$", text, re.M):
        return {"NAME": match[1]}
    return {}


def require_files(arguments: list[str]) -> None:
    """Check that a command has written the images named by its options."""
    for option, name in pairwise(arguments):
        if option in ("--out", "--sheet"):
            images = sorted(Path(name).rglob("*.png")) if Path(name).is_dir() else [Path(name)]
            assert images, arguments
            for image in images:
                Image.open(image).verify()


@by_page
def test_pictures_exist_and_are_small(page: Path) -> None:
    pictures = re.findall(r"^!\[.+\]\((.+)\)$", page.read_text(), re.M)
    assert pictures
    assert all((page.parent / picture).stat().st_size < 400_000 for picture in pictures)


@pytest.mark.slow
@pytest.mark.timeout(900)
@by_page
def test_a_tutorial_can_be_followed_to_its_end(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "my_photographs")
    values: dict[str, str] = {}
    lines = commands(page)
    assert len(lines) > 3
    for line in lines:
        text = line.text
        for name, value in values.items():
            text = re.sub(rf"\b{name}\b", value, text)
        arguments = ours(Line(text, page))
        assert arguments is not None
        more = next((words for start, words in SHORTER.items() if tuple(arguments[: len(start)]) == start), [])
        assert main([*arguments, *more]) == 0, shlex.join(arguments)
        values |= copied_settings(capsys.readouterr().out)
        require_files(arguments)
    for program in re.findall(r"^```python\n((?:.*\n)*?)```$", page.read_text(), re.M):
        before = set(tmp_path.iterdir())
        exec(compile(program, page.name, "exec"), {})
        assert len(set(tmp_path.iterdir()) - before) == program.count("for ") * 4
