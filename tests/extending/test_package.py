"""A sampler and an attention kind can be added to the package as CONTRIBUTING describes. The tests edit a copy."""

import os
import shutil
import subprocess
import sys
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
    assert "sampling steps (midpoint)" in program(*commands, env=with_package(package))


@pytest.fixture
def package_with_attention(package: Path) -> Path:
    """A copy of the package to which the example of an attention kind has been added."""
    spec, arm, mobile_arm = ((ATTENTION / f"{name}.txt").read_text() for name in ("spec", "attention", "mobile"))
    backbones, mobile = package / "backbones", package / "mobile"
    shutil.copy(ATTENTION / "row_attention.py", backbones)
    shutil.copy(ATTENTION / "mobile_row_attention.py", mobile / "row_attention.py")
    edit(
        backbones / "spec.py", "\nAttentionSpec: TypeAlias =", f"\n{spec}\n\nAttentionSpec: TypeAlias = RowAttention |"
    )
    for path, text in ((backbones / "attention.py", arm), (mobile / "attention.py", mobile_arm)):
        edit(path, "AttentionSpec, FullAttention\n", "AttentionSpec, FullAttention, RowAttention\n")
        edit(path, "        case _:\n", f"{text}        case _:\n")
    return package


def test_attention_kind_can_be_added(project: Path, program: Program, package_with_attention: Path) -> None:
    level = "'backbone.levels=[{depth: 1, attention: {kind: row, kv_heads: 1}}]'"
    assert "finished" in program(f"run run.yaml {level}", env=with_package(package_with_attention))


def test_test_of_the_attention_kind_passes(tmp_path: Path, package_with_attention: Path) -> None:
    shutil.copy(ATTENTION / "test.txt", tmp_path / "test_row_attention.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_row_attention.py"]
    env = with_package(package_with_attention)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, env=env)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
