"""Run a Core AI package with Apple's runtime, on the CPU of this machine."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import torch
from coreai.authoring import AIModelAsset
from coreai.runtime import InferenceFunction, NDArray
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.common.native_output import hide_native_output
from pocketdit.export.coreai.package import require_intact

_DTYPES = {"float32": torch.float32, "int32": torch.int32}


class CoreAIModel:
    """A package that is compiled for this machine. Use it as a context manager, which stops its thread on exit.

    Apple's runtime is asynchronous. Its event loop runs in a separate thread, so that this class also works in
    notebooks, whose main thread already runs an event loop.

    Args:
        path: Path of the .aimodel folder.

    Raises:
        RunError: The package is damaged or cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        require_intact(path)
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.resources = AsyncExitStack()
        self.thread.start()
        try:
            self.function = asyncio.run_coroutine_threadsafe(self._load(), self.loop).result()
        except Exception as error:  # the type depends on the damage, for example RuntimeError or ValueError
            self.close()
            raise RunError(f"{path}: Core AI cannot load this package: {' '.join(str(error).split())}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _load(self) -> InferenceFunction:
        with hide_native_output():
            model = await self.resources.enter_async_context(AIModelAsset.load(self.path).executable())
            return model.load_function("main")

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input."""
        descriptor = self.function.desc
        return {name: tuple(descriptor.input_descriptor(name).shape) for name in descriptor.input_names}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the package, and return its named outputs.

        Raises:
            RunError: The name or shape of an input does not match the package.
        """
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        if shapes != self.inputs:  # the runtime would abort the process
            raise RunError(f"{self.path}: the package expects inputs with the shapes {self.inputs}, not {shapes}")
        arrays = {
            name: NDArray(
                value.detach().to(_DTYPES[self.function.desc.input_descriptor(name).dtype]).contiguous().numpy()
            )
            for name, value in inputs.items()
        }
        try:
            outputs = asyncio.run_coroutine_threadsafe(self.function(arrays), self.loop).result()
        except Exception as error:  # the runtime raises RuntimeError, KeyError and others
            raise RunError(f"{self.path}: Core AI cannot run this package: {' '.join(str(error).split())}") from error
        return {name: torch.from_numpy(value.numpy().copy()) for name, value in outputs.items()}

    def close(self) -> None:
        """Free the memory of the package and stop the thread."""
        asyncio.run_coroutine_threadsafe(self.resources.aclose(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
