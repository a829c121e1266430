"""Tests that the results of MIL operations in saved programs match torch or a manual calculation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.coreml import interpreter
from pocketdit.export.coreml.package import Package

X = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))


def save_package(build: Callable[[Any], Any], folder: Path) -> Package:
    """Save a MIL function of one input x (1, 4, 6, 8) as a Core ML package."""
    program = mb.program(input_specs=[mb.TensorSpec(shape=X.shape)], opset_version=ct.target.iOS17)(lambda x: build(x))
    path = folder / "one.mlpackage"
    ct.convert(
        program, minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT32,
        skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY, package_dir=str(path),
    )  # fmt: skip
    return Package(path)


GAMMA = np.linspace(0.5, 2, 8, dtype=np.float32)
KERNEL = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Tensor], Tensor]]] = {
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=GAMMA, epsilon=1e-3),
        lambda x: F.layer_norm(x, (8,), torch.from_numpy(GAMMA), eps=1e-3),
    ),
    "conv": (
        lambda x: mb.conv(x=x, weight=KERNEL, strides=[2, 1], pad_type="custom", pad=[1, 0, 2, 1], groups=2),
        lambda x: F.conv2d(F.pad(x, (2, 1, 1, 0)), torch.from_numpy(KERNEL), stride=(2, 1), groups=2),
    ),
    "conv_transpose": (
        lambda x: mb.conv_transpose(x=x, weight=KERNEL, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.conv_transpose2d(x, torch.from_numpy(KERNEL), stride=2, padding=1),
    ),
    "slice_by_index": (
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, 0, 7], end=[0, 3, -1, 0], stride=[1, 1, 2, 1],
                                    begin_mask=[True, False, True, False], end_mask=[True, False, False, False],
                                    squeeze_mask=[False, False, False, True]),
        lambda x: x[:, 1:3, 0:-1:2, 7],
    ),
    "pad": (
        lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], constant_val=0.5),
        lambda x: F.pad(x, (2, 3, 1, 0), value=0.5),
    ),
    "split": (
        lambda x: mb.split(x=x, split_sizes=[1, 3], axis=1)[1],
        lambda x: x[:, 1:],
    ),
    "einsum": (
        lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda x: torch.einsum("nchw,nuhw->nchu", x, x),
    ),
    "matmul": (
        lambda x: mb.matmul(x=x, y=x, transpose_y=True),
        lambda x: x @ x.mT,
    ),
    "expand_dims": (lambda x: mb.expand_dims(x=x, axes=[-1]), lambda x: x[..., None]),
    "gelu": (
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "rsqrt": (lambda x: mb.rsqrt(x=mb.square(x=x), epsilon=0.5), lambda x: 1 / (x * x + 0.5).sqrt()),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda x: x.clamp(-0.5, 0.25)),
    "upsample": (
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2.0, scale_factor_width=3.0),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
    ),
    "pixel_shuffle": (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operations(name: str, tmp_path: Path) -> None:
    build, reference = CASES[name]
    package = save_package(build, tmp_path)
    (result,) = interpreter.run(package, {next(iter(package.inputs)): X}).values()
    assert torch.allclose(result, reference(X), atol=1e-5)


def test_unsupported_operations_are_named_before_anything_runs(tmp_path: Path) -> None:
    package = save_package(lambda x: mb.cumsum(x=mb.erf(x=x), axis=1), tmp_path)
    with pytest.raises(RunError, match=r"one.mlpackage: cannot be verified, .* not supported: cumsum, erf"):
        interpreter.run(package, {})


def test_missing_inputs_and_wrong_shapes_are_named(tmp_path: Path) -> None:
    package = save_package(lambda x: mb.relu(x=x), tmp_path)
    (name,) = package.inputs
    with pytest.raises(RunError, match=f"one.mlpackage: input {name} is missing"):
        interpreter.run(package, {})
    with pytest.raises(RunError, match=r"the shape of .* is \(1, 4, 6, 9\), but the program declares \(1, 4, 6, 8\)"):
        interpreter.run(package, {name: torch.zeros(1, 4, 6, 9)})


def test_results_are_rounded_to_the_declared_type(half: Path) -> None:
    """In a float16 package, intermediate values must be rounded to float16."""
    package = Package(half / "text_projection.mlpackage")
    state = interpreter._State(package)
    declared = next(
        t for o in package.operations for t in o.outputs.values() if t.dtype == "FLOAT16" and not t.shape[1:]
    )
    state.store("x", declared, torch.full(declared.shape, 1 / 3))
    assert state.values["x"].dtype is torch.float16


def test_tensors_are_freed_after_their_last_use(tmp_path: Path) -> None:
    package = save_package(lambda x: mb.relu(x=mb.tanh(x=mb.cos(x=x))), tmp_path)
    (name,) = package.inputs
    state = interpreter._State(package)
    state.store(name, package.inputs[name], X)
    for operation in package.operations:
        if not operation.is_constant:
            state.execute(operation)
            assert len(state.values) == 1


def test_folder_without_a_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a Core ML package with an ML program"):
        Package(tmp_path / "nothing.mlpackage")
