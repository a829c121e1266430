"""Fixtures that provide a run with one block, and its float16 Core AI bundle."""

from pathlib import Path

import pytest

from pocketdit.export.coreai.dependency import silence_coreai
from pocketdit.export.coreai.settings import CoreAIExport
from tests.export.conftest import TINY, tiny_run

silence_coreai()

ONE_LEVEL = [
    *(override for override in TINY if ".levels." not in override),
    "backbone.levels=[{depth: 1, scale: 1, attention: {kind: assa, kv_heads: 1, blocks: 2, radius: 1}, ffn_ratio: 4}]",
]


@pytest.fixture(scope="session")
def coreai_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that contains elastic_pretrain/one."""
    folder = tmp_path_factory.mktemp("coreai") / "runs"
    tiny_run(folder, "one", ONE_LEVEL)
    return folder


@pytest.fixture(scope="session")
def coreai_settings(coreai_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> CoreAIExport:
    """Settings of a float16 export without a budget."""
    out = tmp_path_factory.mktemp("coreai_exports")
    return CoreAIExport(
        export="tiny", run="elastic_pretrain/one", width=0.5, times=(0.6,), min_snr=50, out=out, runs=coreai_runs
    )


@pytest.fixture(scope="session")
def coreai_bundle(coreai_settings: CoreAIExport) -> Path:
    """A bundle that was exported and verified. Tests must not modify it."""
    pytest.importorskip("coreai_torch", reason="Core AI is optional: pip install 'pocketdit[coreai]'")
    from pocketdit.export.coreai.export import export_coreai

    return export_coreai(coreai_settings)
