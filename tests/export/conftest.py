"""Fixtures that provide a tiny run with random weights and Core ML bundles of such runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.notice import NOTICE
from pocketdit.artifacts.run_folder import RunFolder, create
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.coreml.dependency import silence_coremltools
from pocketdit.export.coreml.settings import CoreMLExport
from tests.conftest import PRETRAIN, ROOT

silence_coremltools()

COREML = ROOT / "experiments" / "export" / "coreml.yaml"
TINY = ["backbone.width=64", "backbone.widths=[0.5, 1.0]", "backbone.text_width=32", "backbone.levels.1.depth=1",
        "backbone.head_dim=32", "backbone.text_kv_heads=1", "backbone.levels.0.attention.kv_heads=1",
        "backbone.levels.1.attention.kv_heads=1", "backbone.levels.2.attention.kv_heads=1",
        "backbone.levels.1.long_skips=false", "sampling.size=[64, 64]",
        "text_encoders.0.init_args.max_tokens=5", "text_encoders.1.init_args.max_tokens=6"]  # fmt: skip


def tiny_run(runs: Path, name: str, overrides: Sequence[str] = TINY) -> RunFolder:
    """Create the folder of a finished run with random weights, all of which influence the output."""
    loaded = load(PRETRAIN, [*overrides, f"runs={runs}"], Experiment)
    folder = create(runs, "elastic_pretrain", name, loaded.to_yaml())
    torch.manual_seed(0)
    network = ElasticDiT(loaded.config.dit)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_file(network.state_dict(), folder.weights)
    (folder.path / NOTICE).write_text("Drawn by A.\n")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that contains elastic_pretrain/t."""
    folder = tmp_path_factory.mktemp("export") / "runs"
    tiny_run(folder, "t")
    return folder


@pytest.fixture(scope="session")
def settings(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> CoreMLExport:
    """Settings of a float32 export that loops over attention blocks, splits queries into chunks, and has no budget."""
    out = tmp_path_factory.mktemp("exports")
    return CoreMLExport(export="tiny", run="elastic_pretrain/t", width=0.5, precision="float32", blockwise="loop",
                        query_chunk=9, times=(0.6,), out=out, runs=runs)  # fmt: skip


@pytest.fixture(scope="session")
def bundle(settings: CoreMLExport) -> Path:
    """A float32 bundle that was exported and verified. Tests must not modify it."""
    from pocketdit.export.coreml.export import export_coreml

    return export_coreml(settings)


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float16 bundle of a network with random weights, exported from the command line with the shipped YAML file.

    The export exceeds its budget and fails, but the bundle is kept.
    """
    folder = tmp_path_factory.mktemp("half")
    described = folder / "tiny.yaml"
    described.write_text(load(PRETRAIN, [*TINY, "backbone.widths=[1.0]"], Experiment).to_yaml())
    overrides = ["run=null", f"experiment={described}", "width=1.0", f"out={folder / 'out'}", "times=[0.5]"]
    assert main(["export", str(COREML), *overrides, "budget.operations=10"]) == 1
    (bundle,) = (folder / "out").iterdir()
    return bundle
