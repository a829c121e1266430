"""Tests that the cost estimate of a run on encoded data counts only the encoders that the run loads."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketdit.commands.main import main
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import load
from pocketdit.running.cost_estimate import stage_cost

Images = Callable[..., Path]
Write = Callable[..., Path]
ENCODERS = ["ClipTextEncoder", "Gemma3TextEncoder", "autoencoder"]


@pytest.mark.parametrize(
    ("options", "loaded"), [((), []), (("--latents-only",), ["ClipTextEncoder", "Gemma3TextEncoder"])]
)
def test_encoders_that_are_not_loaded_are_not_counted(
    images: Images,
    experiment: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    loaded: list[str],
) -> None:
    source, file, out = images(train=4, validation=2), experiment(), tmp_path / "encoded"
    assert main(["data", "encode", str(file), str(source), str(out), "--base-size", "64", *options]) == 0
    sizes = {}
    for name, data, counted in (("images", source, ENCODERS), ("encoded", out, loaded), ("none", tmp_path, ENCODERS)):
        overrides = [f"data.init_args.path={data}", "data.init_args.batch_size=2"]
        cost = stage_cost(load(file, overrides, kind_of(file)).config)
        assert cost is not None
        labels = [step.label for step in cost.passes(torch.device("meta"))]
        assert [label for label in labels if label in ENCODERS] == counted, name
        sizes[name] = cost.replicated.get("frozen encoders", 0)
    assert sizes["none"] == sizes["images"] > sizes["encoded"]
    assert (sizes["encoded"] > 0) == bool(loaded)
    capsys.readouterr()
    overrides = [f"data.init_args.path={out}", "data.init_args.batch_size=2", "training.max_steps=2"]
    assert main(["run", str(file), *overrides, "--plan"]) == 0
    text = capsys.readouterr().out
    assert "encoders whose results the data set stores" in text
    assert "autoencoder" not in text
