"""PocketDiT: an open implementation of SnapGen++ (arXiv 2601.08303) as an experiment platform.

Importing the package is cheap: nothing here loads torch.
"""

import os

from pocketdit import torchvision_cpu

# No library of ours phones home.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

torchvision_cpu.install()

__version__ = "0.1.0"
