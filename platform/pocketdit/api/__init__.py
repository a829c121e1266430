"""The Python API: train runs, sample images from them, score them, and export them.

The commands call the same functions. Errors are instances of ``UserError``, whose message
is the one that the command line prints.
"""

from pocketdit.api.evaluating import evaluate
from pocketdit.api.exporting import export
from pocketdit.api.run import Run, Sample, load
from pocketdit.api.training import train
from pocketdit.errors import UserError

__all__ = ["Run", "Sample", "UserError", "evaluate", "export", "load", "train"]
