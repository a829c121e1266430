"""Tests that damaged and non-finite weights are rejected with a one-line error that names the file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.network import require_weights
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.artifacts.weights import load_weights, save_weights
from pocketdit.errors import RunError

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4),
    "b.half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_weights(tmp_path / "weights.safetensors", TENSORS)
    return tmp_path / "weights.safetensors"


def test_weights_are_loaded_as_they_were_saved(weights: Path) -> None:
    loaded = load_weights(weights)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    assert all(loaded[name].dtype == TENSORS[name].dtype for name in TENSORS)
    content = weights.read_bytes()
    save_weights(weights, TENSORS)
    assert weights.read_bytes() == content


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_the_tensors_is_detected(weights: Path, bit: int) -> None:
    content = weights.read_bytes()
    size = sum(value.nbytes for value in TENSORS.values())
    for position in range(len(content) - size, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        weights.write_bytes(damaged)
        with pytest.raises(RunError, match=r"weights\.safetensors.*damaged"):
            load_weights(weights)


def test_swapped_names_are_detected(weights: Path) -> None:
    """Damage to the header can leave a valid file in which a tensor has a different name or data type."""
    content = weights.read_bytes()
    weights.write_bytes(content.replace(b'"a"', b'"c"'))
    with pytest.raises(RunError, match="damaged"):
        load_weights(weights)
    weights.write_bytes(content.replace(b'"BF16"', b'"F16" '))
    with pytest.raises(RunError, match="damaged"):
        load_weights(weights)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"<html>not found</html>", "cannot be read"),
    ],
)
def test_another_file_is_not_read_as_weights(weights: Path, content: bytes, reason: str) -> None:
    weights.write_bytes(content)
    with pytest.raises(RunError, match=reason) as raised:
        load_weights(weights)
    assert len(str(raised.value).splitlines()) == 1


def test_weights_without_a_checksum_are_accepted(weights: Path) -> None:
    """Weights files of older runs have no checksum."""
    save_file(TENSORS, weights)
    assert torch.equal(load_weights(weights)["a"], TENSORS["a"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_rejected(weights: Path, value: float) -> None:
    save_weights(weights, TENSORS | {"layer.weight": torch.tensor([0.0, value])})
    with pytest.raises(RunError, match=r"layer\.weight contains NaN or infinity"):
        load_weights(weights)


def test_an_error_says_why_there_are_no_weights(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "e" / "a")
    folder.path.mkdir(parents=True)
    with pytest.raises(RunError, match="has no weights yet; resume the run with --resume e/a"):
        require_weights(folder)
    folder.finished.write_text("3\n")
    with pytest.raises(RunError, match=r"weights\.safetensors is missing, although the run has finished"):
        require_weights(folder)
    folder.weights.symlink_to("missing")
    with pytest.raises(RunError, match=r"weights\.safetensors is not a file"):
        require_weights(folder)
