"""Tests for the command line: exit statuses, start-up without torch, and many kinds of invalid configurations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pocketdit.commands.main import is_lightning_command, main, with_reported_errors
from tests.conftest import PRETRAIN, ROOT, Command

DATA = "data.init_args."
STAGE = "stage.init_args."

# For each kind of mistake: overrides that make the mistake, and text that the error message must contain.
MISTAKES = {
    "unknown key": (["training.max_step=3"], "max_steps"),
    "unknown section": (["trainig.max_steps=3"], "training"),
    "unknown argument of a class": ([f"{STAGE}time_shft=3"], "time_shift"),
    "unknown key in a list": (["backbone.levels.0.dept=3"], "depth"),
    "unknown attention": (["backbone.levels.0.attention.kind=asssa"], "assa"),
    "text of several lines": (["autoencoder=a\nb"], "autoencoder: expected a mapping"),
    "unknown class": (["optimizer.class_path=pocketdit.training.muon.MuonAdam"], "MuonAdamW"),
    "unknown module": (["optimizer.class_path=pocketdit.training.muno.MuonAdamW"], "muon"),
    "string instead of number": (["training.max_steps=ten"], "int"),
    "fraction instead of integer": (["training.max_steps=1.5"], "int"),
    "list instead of number": (["seed=[1]"], "seed"),
    "unknown choice": (["training.decay=cosin"], "cosine"),
    "impossible width": (["backbone.widths=[0.3,1.0]"], "head_dim"),
    "impossible heads": (["backbone.text_kv_heads=5"], "key/value heads"),
    "wrong number of levels": (["backbone.levels=[]"], "levels"),
    "zero steps": (["training.max_steps=0"], "training.max_steps: must be from 1 to 1,000,000,000, not 0"),
    "negative warm-up": (["training.warmup_steps=-1"], "training.warmup_steps: must be from 0 to"),
    "size that is not a multiple": (["sampling.size=[100,128]"], "multiples of 32"),
    "text widths that do not match": (["backbone.text_inputs=[128]"], "text_encoders"),
    "override without a value": (["training.max_steps="], "max_steps"),
    "index beyond the list": (["backbone.levels.7.depth=1"], "levels"),
    "reserved argument": ([f"{STAGE}inputs=3"], "inputs"),
    "number instead of path": ([f"{DATA}path=3"], "expected str, got 3"),
    "missing data": ([f"{DATA}path=data/none"], "lightning data build"),
    "sharded Muon": (["training.strategy=fsdp2"], "AdamW"),
    "wrong number of items in a tuple": (["sampling.size=[128]"], "sampling.size"),
    "experiment with a slash": (["experiment=a/b"], "plain name"),
    "negative learning rate": (["optimizer.init_args.lr=-1"], "optimizer.init_args.lr"),
    "absurd number of nodes": ([f"training.nodes={10**40}"], f"training.nodes: {10**40} is too large"),
    "absurd number of devices": (["training.devices=9999999"], "training.devices"),
    "absurd hexadecimal number": ([f"seed=0x{'f' * 10_000}"], "seed: the number is too large"),
    "absurd number of workers": ([f"{DATA}workers={10**6}"], f"{DATA}workers: must be from 0 to 1,024"),
    "negative number of workers": ([f"{DATA}workers=-1"], f"{DATA}workers: must be from 0 to 1,024"),
    "absurd batch": ([f"{DATA}batch_size={10**9}"], f"{DATA}batch_size: must be from 1 to 1,000,000"),
    "absurd text": (
        [f"text_encoders.0.init_args.max_tokens={10**9}"],
        "text_encoders.0.init_args.max_tokens: must be from 1 to 100,000",
    ),
    "absurd depth": ([f"backbone.levels.1.depth={10**8}"], "backbone.levels.1.depth: must be from 1 to 1,000"),
    "absurd width": (["backbone.width=2147483648"], "backbone.width: must be from 1 to 65,536"),
    "absurd size of samples": (["sampling.size=[99999968,128]"], "sampling.size.0: must be from 1 to 65,536"),
    "probability above 1": ([f"{STAGE}drop_text=9e18"], f"{STAGE}drop_text: must be from 0 to 1"),
    "negative spread": ([f"{STAGE}time_spread=-1"], f"{STAGE}time_spread: must be from 0.001 to 100"),
    "infinite number": (["backbone.latent_std.0=.inf"], "backbone.latent_std.0: must be finite, not inf"),
    "infinite weight": ([f"{STAGE}distillation_weight=1e999"], f"{STAGE}distillation_weight: must be finite, not"),
    "text encoder as autoencoder": (
        ["autoencoder={class_path: pocketdit.encoders.hashed_text.WordEncoder}"],
        "autoencoder.class_path: WordEncoder is not an autoencoder",
    ),
    "autoencoder as text encoder": (
        ["text_encoders.0={class_path: pocketdit.encoders.dct.DCTAutoencoder}"],
        "text_encoders.0.class_path: DCTAutoencoder is not a text encoder",
    ),
    "autoencoder as data": (
        ["data={class_path: pocketdit.encoders.dct.DCTAutoencoder}"],
        "data.class_path: DCTAutoencoder is not a LightningDataModule",
    ),
    "optimizer as stage": (
        ["stage.class_path=torch.optim.AdamW"],
        "stage.class_path: AdamW is not a stage",
    ),
    "data as optimizer": (
        ["optimizer.class_path=datamodules.shards.module.ShardDataModule"],
        "optimizer.class_path: ShardDataModule is not an optimizer",
    ),
    "empty batch": ([f"{DATA}batch_size=0"], "data.init_args.batch_size"),
    "name outside the folder": (["--name", "../evil"], "plain name"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line_errors_with_status_2(
    kind: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, expected = MISTAKES[kind]
    assert main(["run", str(PRETRAIN), f"{DATA}path={scenes}", *overrides]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("experiment: [", "not valid YAML"),
        ("", "empty"),
        ("- a\n- b\n", "mapping"),
        ("experiment: x\nexperiment: y\n", "experiment"),
        ("experiment: ${nothing.here}\n", "nothing"),
        ("experiment: x\n", "missing"),
    ],
)
def test_errors_name_the_invalid_file(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert main(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "broken.yaml" in error
    assert error.count("\n") == 1


def test_errors_name_the_unknown_key_and_the_nearest_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(PRETRAIN.read_text())
    values["training"]["warm_up_steps"] = 3
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert "mine.yaml" in error
    assert "training.warm_up_steps" in error
    assert "'warmup_steps'" in error


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["run", "--help"], 0),
        (["run", "experiments/none.yaml"], 2),
        (["run", "experiments/elastic_pretrain.yaml", "training.max_step=3"], 2),
        (["sample", "no_such_run"], 1),
    ],
)
def test_usage_errors_are_reported_without_importing_torch(words: list[str], status: int) -> None:
    """Imports determine the start-up time, so this test checks the imports instead of the time."""
    code = (
        "import sys; from pocketdit.commands.main import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


def test_program_has_three_names() -> None:
    folder = Path(sys.executable).parent
    outputs = {
        subprocess.run([*words, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=60).stdout
        for words in ([folder / "lightning"], [folder / "pocketdit"], [sys.executable, "-m", "pocketdit"])
    }
    assert len(outputs) == 1
    assert "COMMAND" in outputs.pop()


def test_other_commands_are_passed_to_lightning(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\nprint('ran under', os.environ['LT_CLI_USED'])\n")
    done = command("run", script, env=os.environ | {"LT_DEVICES": "1"})
    assert done.returncode == 0, done.stderr
    assert "ran under 1" in done.stdout
    assert main(["run", str(tmp_path / "none.py")]) == 2
    error = capsys.readouterr().err
    assert "none.py" in error
    assert "Traceback" not in error
    for ours in (["run", "x.yaml"], ["run", "--plan", "x.yml", "a=1"], ["run"], []):
        assert not is_lightning_command(ours)
    assert is_lightning_command(["run", "x.py"])
    assert is_lightning_command(["fabric", "consolidate", "checkpoint"])


def test_printed_configuration_can_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(PRETRAIN), "--print-config", "training.max_steps=7"]) == 0
    first = capsys.readouterr().out
    path = tmp_path / "again.yaml"
    path.write_text(first)
    assert main(["run", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == first
    assert yaml.safe_load(first)["training"]["max_steps"] == 7


def test_overrides_can_follow_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(PRETRAIN), "seed=3", "--resume", "training.max_steps=7", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["training"]["max_steps"] == 7
    assert values["seed"] == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scenes", "OUT", "--train", "0"], "--train 0"),
        (["scenes", "OUT", "--validation", "0.5"], "whole number"),
        (["scenes", "OUT", "--max-side", "64"], "--max-side"),
        (["IMAGES", "OUT", "--train", "3"], "--train"),
        (["IMAGES", "OUT", "--max-side", "0"], "--max-side 0"),
        (["IMAGES", "OUT", "--validation", "2"], "less than 1"),
        (["IMAGES", "OUT", "--validation", "nan"], "less than 1"),
    ],
)
def test_invalid_data_set_options_are_rejected(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "build", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_missing_accelerator_is_rejected_before_a_folder_is_created(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.mps.is_available():
        pytest.skip("this machine has MPS")
    assert main(["run", str(PRETRAIN), *tiny, "training.accelerator=mps"]) == 2
    assert "training.accelerator" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_plan_estimates_parameters_memory_and_time(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(PRETRAIN), "--plan", *tiny]) == 0
    text = capsys.readouterr().out
    for word in ("parameters", "gradients", "optimizer state", "FLOPs per step", "samples per second", "MiB"):
        assert word in text


def test_sample_writes_a_grid(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    out = tmp_path / "grid.png"
    words = ["sample", "elastic_pretrain", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    assert main([*words, "a red circle", "two green stars", "--steps", "2", "--size", "96x160", "--width", "0.5"]) == 0
    grid = Image.open(out)
    assert grid.width > 2 * 160
    assert 96 < grid.height < 200
    for invalid, expected in (
        (["--width", "0.7"], "0.5"),
        (["--size", "100x100"], "multiples"),
        (["--size", "big"], "--size big: must be HEIGHTxWIDTH in pixels, such as 768x1024"),
        (["--steps", "0"], "at least 1"),
        (["--out", "x.jpg"], ".png"),
        (["--out", "/dev/null/x.png"], "cannot create the folder /dev/null"),
    ):
        assert main([*words[:4], "a red circle", *invalid]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert "Traceback" not in error


def test_a_full_disk_is_reported_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    def fill(_: object) -> int:
        raise OSError(28, "No space left on device", "sample.png")

    assert with_reported_errors(fill, ["sample"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lightning sample: [Errno 28] No space left on device: 'sample.png'; free some disk space")


def test_nearest_name_is_suggested_for_an_unknown_run(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    assert main(["sample", "elastic_pretrian", "--runs", str(tmp_path / "runs")]) == 1
    assert "elastic_pretrain" in capsys.readouterr().err
