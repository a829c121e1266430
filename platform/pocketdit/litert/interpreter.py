"""A .tflite file run on this machine's CPU by LiteRT's interpreter (XNNPACK)."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from pocketdit.errors import ConfigError, RunError


def require_litert() -> None:
    """``ConfigError`` where LiteRT is not installed: it is an extra."""
    if missing := [name for name in ("litert_torch", "ai_edge_litert") if find_spec(name) is None]:
        raise ConfigError(f"{missing[0]} is not installed: pip install 'pocketdit[litert]'")


@contextmanager
def native_output_hidden() -> Iterator[None]:
    """Keep what LiteRT and what it imports print (compiled code too) from the user, who cannot act on it."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class LiteRTModel:
    """One loaded file with its first signature. ``RunError`` where it cannot be loaded."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        require_litert()
        try:
            with native_output_hidden():
                from ai_edge_litert.interpreter import Interpreter

                self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self.interpreter.allocate_tensors()
                self.signature = self.interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"{path} is not a complete LiteRT model: {' '.join(str(error).split())}") from error
        self.threads = threads

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tuple(map(int, d["shape"])) for name, d in self.signature.get_input_details().items()}

    @property
    def operations(self) -> int:
        """Of the graph, before XNNPACK takes its share."""
        return sum(operation["op_name"] != "DELEGATE" for operation in self.interpreter._get_ops_details())

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One pass. ``ValueError`` for a name or shape that the file does not have."""
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return {name: torch.from_numpy(value) for name, value in self.signature(**arrays).items()}

    def milliseconds(self, inputs: Mapping[str, Tensor], runs: int, warmup: int = 1) -> list[float]:
        """Of every pass after ``warmup`` passes, the copies in and out included."""
        for _ in range(warmup):
            self(inputs)
        measured = []
        for _ in range(runs):
            began = time.perf_counter()
            self(inputs)
            measured.append(1000 * (time.perf_counter() - began))
        return measured


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute value that was expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def signal_to_noise(found: Tensor, expected: Tensor) -> float:
    """dB: power of what was expected over power of the difference."""
    return float(10 * torch.log10(expected.square().mean() / (found - expected).square().mean()))
