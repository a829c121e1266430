"""A sampler and an attention kind can be added to the package as CONTRIBUTING describes. The tests edit a copy."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.extending.conftest import Program

MIDPOINT = '''

def midpoint(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second-order sampler with two velocity evaluations per step."""
    for start, end in pairwise(times):
        half = (start + end) / 2
        middle = x + (half - start) * velocity(x, torch.full((len(x),), start))
        x = x + (end - start) * velocity(middle, torch.full((len(x),), half))
    return x


SAMPLERS'''

ATTENTION = Path(__file__).parent / "attention"


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that takes precedence over the installed one."""
    copy = tmp_path_factory.mktemp("copy") / "pocketdit"
    shutil.copytree(ROOT / "platform" / "pocketdit", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} does not contain {old!r}"
    path.write_text(text.replace(old, new, 1))


def with_package(package: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT)])}


def test_sampler_can_be_added(project: Path, program: Program, package: Path) -> None:
    edit(package / "diffusion" / "samplers.py", "\nSAMPLERS", MIDPOINT)
    edit(package / "diffusion" / "sampler_names.py", '"dpmpp_2m"]', '"dpmpp_2m", "midpoint"]')
    commands = ("run run.yaml sampling.sampler=midpoint", "sample mine --sampler midpoint")
    assert "steps of midpoint" in program(*commands, env=with_package(package))


def test_attention_kind_can_be_added(project: Path, program: Program, package: Path) -> None:
    shutil.copy(ATTENTION / "mean_attention.py", package / "backbones")
    description, arm = ((ATTENTION / f"{name}.txt").read_text() for name in ("spec", "attention"))
    spec, attention = package / "backbones" / "spec.py", package / "backbones" / "attention.py"
    edit(spec, "\nAttentionSpec: TypeAlias =", f"\n{description}\n\nAttentionSpec: TypeAlias = MeanAttention |")
    edit(attention, "import AdaptiveSparseAttention,", "import AdaptiveSparseAttention, MeanAttention,")
    edit(attention, "        case _:\n", f"{arm}        case _:\n")
    level = "'backbone.levels=[{depth: 1, attention: {kind: mean, kv_heads: 1}}]'"
    assert "finished" in program(f"run run.yaml {level}", env=with_package(package))
