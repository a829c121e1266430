"""Run a .tflite file on the CPU of this machine with LiteRT's interpreter and XNNPACK."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.common.native_output import hide_native_output
from pocketdit.export.litert.dependency import require_litert_runtime


class LiteRTModel:
    """A .tflite file that is loaded into the interpreter. Its first signature is used.

    Args:
        path: Path of the file.
        threads: Number of threads for the interpreter.

    Attributes:
        inputs: Shape of each input.

    Raises:
        RunError: The file cannot be loaded.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        require_litert_runtime()
        try:
            with hide_native_output():
                from ai_edge_litert.interpreter import Interpreter

                self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self.interpreter.allocate_tensors()
                self.signature = self.interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"{path}: not a valid LiteRT model: {' '.join(str(error).split())}") from error
        self.path = path
        self.threads = threads
        details = self.signature.get_input_details()
        self.inputs = {name: tuple(map(int, entry["shape"])) for name, entry in details.items()}

    @property
    def operations(self) -> int:
        """Number of operations in the graph before some of them are delegated to XNNPACK."""
        return sum(operation["op_name"] != "DELEGATE" for operation in self.interpreter._get_ops_details())

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one pass and return the named outputs.

        Raises:
            RunError: The name or shape of an input does not match the signature.
        """
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        if shapes != self.inputs:
            raise RunError(f"{self.path}: the model expects inputs with the shapes {self.inputs}, not {shapes}")
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return {name: torch.from_numpy(value) for name, value in self.signature(**arrays).items()}

    def milliseconds(self, inputs: Mapping[str, Tensor], runs: int, warmup: int = 1) -> list[float]:
        """Return how long each of ``runs`` passes took in milliseconds, after ``warmup`` passes that are not timed.

        The times include copying the inputs and outputs.
        """
        for _ in range(warmup):
            self(inputs)
        measured = []
        for _ in range(runs):
            started = time.perf_counter()
            self(inputs)
            measured.append(1000 * (time.perf_counter() - started))
        return measured
