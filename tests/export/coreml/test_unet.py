"""Tests that SnapGen's U-Net is exported and verified in the same way as the transformers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.run_folder import create
from pocketdit.backbones.build import build_network
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.coreml.convert import Precision
from pocketdit.export.coreml.settings import CoreMLExport
from tests.conftest import PRETRAIN
from tests.export.conftest import TINY

U_NET = """backbone={kind: unet, latent_channels: 16, text_inputs: [128, 192], text_width: 32, channels: [32, 64],
    transformer_layers: [1, 1], head_dim: 16}"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_u_net_is_exported(precision: Precision, settings: CoreMLExport, tmp_path: Path) -> None:
    from pocketdit.export.coreml.export import export_coreml

    others = [override for override in TINY if not override.startswith("backbone.")]
    loaded = load(PRETRAIN, [U_NET, *others, "experiment=u_net", f"runs={tmp_path / 'runs'}"], Experiment)
    folder = create(tmp_path / "runs", "u_net", "t", loaded.to_yaml())
    torch.manual_seed(0)
    network = build_network(loaded.config.backbone)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(torch.randn(parameter.shape) * (0.02 if "norm" in name else 0.05))
    save_file(network.state_dict(), folder.weights)
    changed = replace(
        settings, run="u_net/t", runs=tmp_path / "runs", out=tmp_path, width=1.0, precision=precision, min_snr=40.0,
        max_error=1e-5,
    )  # fmt: skip
    bundle = export_coreml(changed)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["network"]["hidden"] == 64
    assert {"transformer", "text_projection"} <= set(manifest["packages"])
    assert [entry for entry in manifest["verification"] if "velocity" in entry["output"]]
