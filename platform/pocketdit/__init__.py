"""PocketDiT: an open implementation of SnapGen++ (arXiv 2601.08303), built for experiments.

Importing the package is cheap and does not load torch.
"""

import os

from pocketdit import torchmetrics_deferred, torchvision_cpu

# Turn off telemetry in third-party libraries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

torchmetrics_deferred.install()
torchvision_cpu.install()

__version__ = "0.1.0"
