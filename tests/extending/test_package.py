"""Tests that a sampler and types of attention can be added to a copy of the package, as CONTRIBUTING describes."""

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

EXAMPLES = Path(__file__).parent


def copy_package(folder: Path) -> Path:
    """Copy the package to a folder, so that a process can import the copy instead of the installed package."""
    source, copy = ROOT / "platform" / "pocketdit", folder / "copy" / "pocketdit"
    return shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} does not contain {old!r}"
    path.write_text(text.replace(old, new, 1))


def with_package(package: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT)])}


def add_attention_kind(package: Path, example: Path, class_name: str) -> None:
    """Add an example's type of attention to a copy of the package, as docs/extending.md describes."""
    spec, arm, mobile_arm = ((example / f"{name}.txt").read_text() for name in ("spec", "attention", "mobile"))
    backbones, mobile = package / "backbones", package / "mobile"
    for path in example.glob("*.py"):
        is_mobile = path.name.startswith("mobile_")
        shutil.copy(path, mobile / path.name.removeprefix("mobile_") if is_mobile else backbones)
    edit(
        backbones / "spec.py", "\nAttentionSpec: TypeAlias =", f"\n{spec}\n\nAttentionSpec: TypeAlias = {class_name} |"
    )
    for path, text in ((backbones / "attention.py", arm), (mobile / "attention.py", mobile_arm)):
        edit(path, "AttentionSpec, FullAttention\n", f"AttentionSpec, FullAttention, {class_name}\n")
        edit(path, "        case _:\n", f"{text}        case _:\n")


def run_test(text: Path, folder: Path, package: Path) -> str:
    """Run an example's test with a copy of the package, and return the output of pytest."""
    shutil.copy(text, folder / "test_example.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    env = with_package(package)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, env=env)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def package_with_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package to which the type of attention ``row`` and the sampler ``midpoint`` were added."""
    package = copy_package(tmp_path_factory.mktemp("rows"))
    add_attention_kind(package, EXAMPLES / "attention", "RowAttention")
    edit(package / "diffusion" / "samplers.py", "\nSAMPLERS", MIDPOINT)
    edit(package / "diffusion" / "sampler_names.py", '"dpmpp_2m"]', '"dpmpp_2m", "midpoint"]')
    return package


@pytest.fixture
def package_with_gates(tmp_path: Path) -> Path:
    """A copy of the package to which the type of attention ``gated``, which has additional weights, was added."""
    package, example = copy_package(tmp_path), EXAMPLES / "gated"
    add_attention_kind(package, example, "GatedAttention")
    dit = package / "backbones" / "dit.py"
    arm = "                module.init_branches()\n"
    edit(dit, arm, arm + (example / "init.txt").read_text())
    imports = "from pocketdit.backbones.position import"
    edit(dit, imports, f"from pocketdit.backbones.gated_attention import GatedSelfAttention\n{imports}")
    return package


def test_attention_kind_and_sampler_can_be_added(project: Path, program: Program, package_with_rows: Path) -> None:
    level = "'backbone.levels=[{depth: 1, attention: {kind: row, kv_heads: 1}}]'"
    commands = (f"run run.yaml {level} sampling.sampler=midpoint", "sample mine --sampler midpoint")
    output = program(*commands, env=with_package(package_with_rows))
    assert "finished" in output
    assert "sampling steps (midpoint)" in output


def test_test_of_the_attention_kind_passes(tmp_path: Path, package_with_rows: Path) -> None:
    output = run_test(EXAMPLES / "attention" / "test.txt", tmp_path, package_with_rows)
    assert "2 passed" in output, output


def test_attention_kind_with_a_weight_of_its_own_can_be_added(tmp_path: Path, package_with_gates: Path) -> None:
    output = run_test(EXAMPLES / "gated" / "test.txt", tmp_path, package_with_gates)
    assert "5 passed" in output, output
