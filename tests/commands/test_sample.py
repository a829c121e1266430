"""Tests that ``lightning sample`` with a prompt file, seeds and a folder writes one file per image."""

import json
from pathlib import Path

import pytest
from PIL import Image

from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from evaluation.prompts.file import PromptFile
from evaluation.subjects.image_folder import ImageFolder
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.commands.main import main
from pocketdit.config.experiment import Sampling
from pocketdit.files import sha256_of
from pocketdit.running.model import load_model
from tests.export.conftest import tiny_run

TEXTS = ("a red circle", "two green stars, one blue", 'Ü: a "blue" square')


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "runs"
    tiny_run(folder, "t")
    return folder


@pytest.fixture
def words(runs: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a command that samples three prompts in two sampling steps."""
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    return ["sample", "elastic_pretrain/t", "--runs", str(runs), "--prompts", str(tmp_path / "prompts.jsonl"),
            "--steps", "2", "--size", "64x96"]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_prompt_seed_and_width_has_a_file_with_its_settings(words: list[str], runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*words, "--seeds", "7", "0", "--width", "0.5", "1", "--out", str(out)]) == 0
    names = [f"{i:05d}/{seed:04d}.png" for i in range(3) for seed in (0, 7)]
    expected = {f"width_{width}/{name}" for width in ("0.5", "1") for name in (*names, "metadata.jsonl")}
    assert set(contents(out)) == expected
    folder = find(runs, "elastic_pretrain/t")
    experiment = load_experiment(folder)
    model = load_model(folder, experiment)
    sampling = Sampling(TEXTS, 2, experiment.sampling.sampler, experiment.sampling.guidance, size=(64, 96), seed=7,
                        time_shift=experiment.sampling.time_shift)  # fmt: skip
    for prompt, image in zip(range(3), model.sample(TEXTS, 0.5, sampling), strict=True):
        file = Image.open(out / "width_0.5" / f"{prompt:05d}" / "0007.png")
        assert file.size == (96, 64)
        assert file.convert("RGB").tobytes() == image.permute(1, 2, 0).numpy().tobytes()
        assert file.info.get("Description", "") == TEXTS[prompt]
        assert file.info["Copyright"] == "Drawn by A.\n"
        settings = json.loads(file.info["Comment"])
        assert settings["weights_sha256"] == sha256_of(folder.weights)
        shown = {name: settings[name] for name in ("run", "width", "steps", "seed", "size", "guidance")}
        assert shown == {"run": "elastic_pretrain/t", "width": 0.5, "steps": 2, "seed": 7, "size": [64, 96],
                         "guidance": experiment.sampling.guidance}  # fmt: skip
    lines = [json.loads(line) for line in (out / "width_1" / "metadata.jsonl").read_text().splitlines()]
    assert sorted(line["file_name"] for line in lines) == names
    assert all(line["text"] == TEXTS[int(line["file_name"][:5])] and line["width"] == 1.0 for line in lines)


def test_an_interrupted_command_resumes_and_other_settings_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [*words, "--seeds", "0", "1", "--width", "0.5", "--out", str(out)]
    assert main(command) == 0
    before = contents(out)
    missing = out / "00001" / "0001.png"
    kept = out / "00000" / "0000.png"
    time = kept.stat().st_mtime_ns
    missing.unlink()
    (out / "metadata.jsonl").unlink()
    assert main(command) == 0
    assert contents(out) == before
    assert kept.stat().st_mtime_ns == time
    capsys.readouterr()
    missing.unlink()
    for change in (["--steps", "3"], ["--guidance", "1"], ["--prompts", str(tmp_path / "other.txt")]):
        (tmp_path / "other.txt").write_text("a blue square\n")
        assert main([*command, *change]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "0000.png is not an image of this prompt with these settings; choose another folder" in line
    assert not missing.exists()
    kept.write_bytes(b"not an image")
    assert main(command) == 2
    assert "00000/0000.png is not an image of this prompt" in capsys.readouterr().err


def test_data_build_and_evaluate_read_the_folder(words: list[str], tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    (tmp_path / "prompts.txt").write_text("\n".join(TEXTS[:2]))
    command = [
        *words,
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--seeds",
        "0",
        "3",
        "--width",
        "1",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    assert main(["data", "build", str(out), str(data), "--validation", "same"]) == 0
    index = load_index(data, "train", "image")
    samples = [ShardReader(index).read_sample(row) for row in range(len(index))]
    assert sorted((sample.id, sample.captions) for sample in samples) == [
        (f"{i:05d}/{seed:04d}.png", (TEXTS[i],)) for i in range(2) for seed in (0, 3)
    ]
    images = ImageFolder(out).images(PromptFile(tmp_path / "prompts.txt").load(), tmp_path)
    assert images.images == {
        f"{i:05d}": tuple(out / f"{i:05d}" / f"{seed:04d}.png" for seed in (0, 3)) for i in range(2)
    }


def test_prompts_in_a_file_may_have_sizes_of_their_own(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sizes.csv").write_text("id,prompt,width,height\nwide,a red circle,96,32\nbad,a star,96,\n")
    command = [*words, "--prompts", str(tmp_path / "sizes.csv"), "--width", "0.5", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "prompt bad: the height '' and the width '96' are not numbers of pixels" in capsys.readouterr().err
    (tmp_path / "sizes.csv").write_text("id,prompt,width,height\nwide,a red circle,96,32\nplain,a star,,\n")
    assert main(command) == 0
    assert {path.parent.name: Image.open(path).size for path in (tmp_path / "out").rglob("*.png")} == {
        "wide": (96, 32),
        "plain": (96, 64),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a red circle"], "pass either a file or prompts on the command line, not both"),
        (
            ["--seeds", "1", "2", "--out", "x.png"],
            "--seeds: a grid has a single seed; pass a folder as --out instead of x.png",
        ),
        (["--seeds", "1", "1"], "--seeds 1: the seeds must be distinct and not negative"),
        (["--seeds", "-1"], "--seeds -1: the seeds must be distinct"),
        (["--seed", "1", "--seeds", "2"], "not allowed with argument --seed"),
        (["--prompts", "missing.txt"], "missing.txt: cannot be read (No such file or directory)"),
        (["--out", "/dev/null/x"], "--out /dev/null/x: cannot create the folder /dev/null/x"),
        (["--out", "x.jpg"], "--out x.jpg: must end with .png, or be a folder"),
    ],
)
def test_wrong_options_are_refused(
    words: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*words, *options])
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("out", ["out", "out.png"])
def test_prompts_that_are_not_utf8_are_refused(
    runs: Path, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", "elastic_pretrain/t", "caf\udce9", "--runs", str(runs), "--out", str(tmp_path / out)]
    assert main(words) == 2
    assert capsys.readouterr().err == "lightning sample: prompts: caf\\udce9 is not valid UTF-8; encode it as UTF-8\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "half a \\ud83d"}', "prompt 1: half a \\ud83d is not valid UTF-8; encode it as UTF-8"),
        ('{"prompt": "a", "id": "\\ud83d"}', "prompt 1: \\ud83d is not valid UTF-8; encode it as UTF-8"),
        ('{"prompt": "a", "id": "x\\u0000"}', "the id 'x\\x00' is not a plain file name"),
    ],
)
def test_prompt_files_with_text_that_files_cannot_store_are_refused(
    words: list[str], line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(words[words.index("--prompts") + 1]).write_text(line)
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
