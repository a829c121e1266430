"""Tests that exporting a quantized run fails if its palettes file is missing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.run_folder import create
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import split_by_width
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import RunError
from pocketdit.export.common.subject import load_subject
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.quantization.palette import Palette, save_palettes
from tests.conftest import ROOT
from tests.export.conftest import TINY


def test_a_quantized_run_without_its_palettes_is_refused(tmp_path: Path) -> None:
    quantize = load(ROOT / "experiments" / "quantize_finetune.yaml", [*TINY, "backbone.widths=[0.5]"], Experiment)
    folder = create(tmp_path, "quantize_finetune", "x", quantize.to_yaml())
    network = split_by_width(ElasticDiT(quantize.config.dit), share_weights=False)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder.weights)
    settings = CoreMLExport(export="x", run="quantize_finetune/x", width=0.5, runs=tmp_path)
    with pytest.raises(RunError, match=r"palettes\.safetensors is missing"):
        load_subject(settings)
    palette = Palette(torch.arange(4, dtype=torch.float16), torch.zeros(32, 32, dtype=torch.uint8))
    save_palettes(folder.palettes, {"stages.0.blocks.0.attention.q": palette})
    assert list(load_subject(settings).palettes) == ["stages.0.blocks.0.attention.q"]
