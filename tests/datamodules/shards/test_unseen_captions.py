"""Tests that ``data stats``, ``data validate`` and new runs count the caption parts that text encoders do not see."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import Sample
from datamodules.shards.writer import DatasetWriter
from pocketdit.commands.main import main
from tests.conftest import PRETRAIN

LONG = " ".join(["word"] * 90)


@pytest.fixture(name="dataset")
def fixture_dataset(tmp_path: Path, make_sample: Callable[..., Sample]) -> Path:
    captions = (("a red circle", "the long one"), (LONG,), ("\U0001f534",), ("a red circle", LONG))
    with DatasetWriter(tmp_path / "data", kind="image", name="x", source="test") as writer:
        for number, texts in enumerate(captions):
            writer.add("train", replace(make_sample(number), captions=texts))
        writer.add("validation", replace(make_sample(0, split="validation"), captions=("a teal circle",)))
    return tmp_path / "data"


EXPECTED = (
    "Encoder does not see everything in 6 train captions: 2 truncated to 80 tokens, 1 without any token, 1 with parts "
    "that have no token (\U0001f534)",
    "Encoder does not see everything in 1 validation caption: 1 word missing from the training captions (teal)",
)


@pytest.mark.parametrize("verb", ["stats", "validate"])
@pytest.mark.parametrize("options", [[], ["--text", str(PRETRAIN)]])
def test_commands_count_what_the_encoders_do_not_see(
    dataset: Path, capsys: pytest.CaptureFixture[str], verb: str, options: list[str]
) -> None:
    assert main(["data", verb, str(dataset), *options]) == 0
    text = capsys.readouterr().out
    for name in ("Word", "Phrase"):
        assert all(f"{name}{line}" in text for line in EXPECTED), text


@pytest.mark.parametrize(("choice", "count"), [("random", 6), ("short", 4), ("long", 4), (0.5, 6), (1.0, 4)])
def test_only_captions_that_training_may_use_are_read(dataset: Path, choice: str | float, count: int) -> None:
    module = ShardDataModule(str(dataset), batch_size=2, caption=choice)  # type: ignore[arg-type]
    captions, is_all = module.read_captions("train", 4)
    assert (len(captions), is_all) == (count, True)
    assert ("a red circle" in captions) == (choice != "long")
    assert module.read_captions("train", 2)[1] is False


def test_run_counts_what_its_encoders_do_not_see(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"data.init_args.path={dataset}", f"runs={tmp_path / 'runs'}", "data.init_args.workers=0"]
    settings = ["training.max_steps=1", "training.validate_every=0", "training.sample_every=0"]
    assert main(["run", str(PRETRAIN), *overrides, *settings, "training.accelerator=cpu"]) == 0
    text = capsys.readouterr().out
    for name in ("Word", "Phrase"):
        assert all(f"note: {name}{line}" in text for line in EXPECTED), text
