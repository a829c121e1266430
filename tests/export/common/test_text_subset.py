"""Tests that removing a text encoder from a network is equivalent to hiding the encoder's tokens."""

from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.run_folder import find
from pocketdit.encoders.conditioning import unconditional
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.export.common.subject import load_subject
from pocketdit.export.common.text_subset import keep_layers
from pocketdit.export.coreml.settings import CoreMLExport


def settings_for(runs: Path, kept: tuple[int, ...] | None) -> CoreMLExport:
    return CoreMLExport(export="x", run="elastic_pretrain/t", width=0.5, runs=runs, text_encoders=kept)


@pytest.mark.parametrize("kept", [0, 1])
def test_hidden_and_absent_encoders_are_the_same(runs: Path, kept: int) -> None:
    assert find(runs, "elastic_pretrain/t")
    whole, part = load_subject(settings_for(runs, None)), load_subject(settings_for(runs, (kept,)))
    rng = torch.Generator().manual_seed(0)
    x, time = torch.randn(2, 16, 8, 8, generator=rng), torch.tensor([0.3, 0.8])
    text = [
        TextTokens(torch.randn(2, length, width, generator=rng), torch.arange(length)[None] < torch.tensor([[2], [4]]))
        for length, width in zip(whole.text_lengths, whole.network.spec.text_inputs, strict=True)
    ]
    hidden = [tokens if i == kept else unconditional([tokens])[0] for i, tokens in enumerate(text)]
    expected = whole.network(x, time, hidden)
    torch.testing.assert_close(part.network(x, time, [text[kept]]), expected, rtol=1e-5, atol=1e-5)
    assert (whole.network(x, time, text) - expected).abs().max() > 1e-3  # the hidden encoder affects the output
    assert part.text_lengths == (whole.text_lengths[kept],)
    assert part.experiment.text_encoders == (whole.experiment.text_encoders[kept],)
    assert part.name.endswith(f"-textencoders_{kept}")


def test_layers_are_renumbered() -> None:
    values = {"text.project.0.weight": 0, "text.project.1": 1, "text.norm.1.bias": 2, "text.null": 3, "embed.weight": 4}
    assert keep_layers(values, [1]) == {"text.project.0": 1, "text.norm.0.bias": 2, "text.null": 3, "embed.weight": 4}


@pytest.mark.parametrize("kept", [(), (2,), (0, 5)])
def test_unknown_encoders_are_refused(runs: Path, kept: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"text_encoders=\[.*\]: must contain at least one position from 0 to 1"):
        load_subject(settings_for(runs, kept))


def test_positions_must_increase(runs: Path) -> None:
    with pytest.raises(ValueError, match="text_encoders: must be increasing positions"):
        settings_for(runs, (1, 0))
