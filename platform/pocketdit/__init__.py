"""PocketDiT: an open implementation of SnapGen++ (arXiv 2601.08303), built for experiments.

Importing the package is cheap and does not load torch.
"""

import os
from typing import TYPE_CHECKING, Any

from pocketdit import torchmetrics_deferred, torchvision_cpu

if TYPE_CHECKING:
    from pocketdit.api import Run, Sample, UserError, evaluate, load, train
    from pocketdit.pipelines.image_to_image import PocketDiTImg2ImgPipeline, PocketDiTInpaintPipeline
    from pocketdit.pipelines.text_to_image import PocketDiTPipeline

# Turn off telemetry in third-party libraries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

torchmetrics_deferred.install()
torchvision_cpu.install()

__version__ = "0.1.0"

__all__ = [
    "PocketDiTImg2ImgPipeline",
    "PocketDiTInpaintPipeline",
    "PocketDiTPipeline",
    "Run",
    "Sample",
    "UserError",
    "__version__",
    "evaluate",
    "load",
    "train",
]

_EXPORTS = {
    "PocketDiTImg2ImgPipeline": "pocketdit.pipelines.image_to_image",
    "PocketDiTInpaintPipeline": "pocketdit.pipelines.image_to_image",
    "PocketDiTPipeline": "pocketdit.pipelines.text_to_image",
    "Run": "pocketdit.api",
    "Sample": "pocketdit.api",
    "UserError": "pocketdit.api",
    "evaluate": "pocketdit.api",
    "load": "pocketdit.api",
    "train": "pocketdit.api",
}


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used, because its module takes seconds to import."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Also list the exported names, so that notebooks can complete them."""
    return sorted({*globals(), *__all__})
