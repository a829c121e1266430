"""Tests that a run that uses stored text embeddings of a teacher does not need the teacher's text encoders."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datamodules.shards.schema import read_info
from datamodules.shards.text_layout import TextLayout
from pocketdit.commands.main import main
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.hashed_text import WordEncoder
from pocketdit.errors import RunError
from pocketdit.stages.teaching import replace_hidden
from pocketdit.teachers.run import RunTeacher
from tests.conftest import ROOT
from tests.stages.conftest import train

KNOWLEDGE = ROOT / "experiments" / "knowledge_distill.yaml"


@pytest.fixture(name="encoded")
def fixture_encoded(scenes: Path, tmp_path: Path, knowledge_overrides: list[str]) -> Path:
    out = tmp_path / "encoded"
    options = ["--teacher", "--dtype", "float32"]
    assert main(["data", "encode", str(KNOWLEDGE), str(scenes), str(out), *knowledge_overrides, *options]) == 0
    return out


def test_run_learns_the_same_from_stored_text(
    encoded: Path, family: Path, knowledge_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [TextLayout.parse(text).width for text in read_info(encoded).teacher_text_encoders] == [128, 192]
    options = ("stage.init_args.drop_text=0.7", "stage.init_args.teacher_guidance=3", "training.max_steps=4")
    train("knowledge_distill", *knowledge_overrides, *options, "--name", "images")
    encodings: list[int] = []
    encode = WordEncoder.encode

    def count(self: WordEncoder, captions: Sequence[str]) -> TextTokens:
        encodings.append(len(captions))
        return encode(self, captions)

    monkeypatch.setattr(RunTeacher, "condition", lambda *_: pytest.fail("the teacher must not encode captions"))
    monkeypatch.setattr(WordEncoder, "encode", count)
    train("knowledge_distill", *knowledge_overrides, *options, f"data.init_args.path={encoded}", "--name", "stored")
    expected, weights = (
        load_file(family / "runs" / "knowledge_distill" / name / "weights.safetensors") for name in ("images", "stored")
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert set(encodings) == {2}  # the run encodes only the two preview prompts


def test_text_of_another_teacher_is_refused_by_name(
    encoded: Path, knowledge_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = encoded / "dataset.json"
    text = path.read_text()
    assert text.count('"max_tokens": 80') >= 4
    head, tail = text.split('"teacher_text_encoders"')
    path.write_text(head + '"teacher_text_encoders"' + tail.replace('"max_tokens": 80', '"max_tokens": 40', 1))
    options = [*knowledge_overrides, f"data.init_args.path={encoded}", "--name", "refused"]
    assert main(["run", str(KNOWLEDGE), *options]) == 2
    message = (
        "stage.init_args.teacher.text_encoders.0.init_args.max_tokens: the text embeddings of the data set were encoded"
    )
    assert message in capsys.readouterr().err


def test_teacher_without_text_encoders_says_so(family: Path) -> None:
    with pytest.raises(RunError, match="set load_text to true in its init_args"):
        RunTeacher("teacher", runs=family / "runs", load_text=False).condition(["a red circle"])


def test_hidden_samples_get_the_empty_caption() -> None:
    tokens = TextTokens(
        torch.arange(24.0).reshape(3, 4, 2), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]) > 0
    )
    blank = TextTokens(torch.full((1, 3, 2), -1.0), torch.tensor([[1, 1, 1]]) > 0)
    replaced = replace_hidden(tokens, blank, torch.tensor([True, False, True]))
    # The longest caption is hidden. Of the remaining ones, the empty caption is the longest, so all are padded to it.
    assert replaced.mask.tolist() == [[True, True, False], [True, True, True], [True, False, False]]
    assert replaced.embeddings[1].tolist() == [[-1.0, -1.0]] * 3
    assert torch.equal(replaced.embeddings[0], tokens.embeddings[0, :3])
