"""Compiles a backbone's blocks with ``torch.compile``."""

import torch

from pocketdit.backbones.build import Backbone
from pocketdit.config.experiment import Training
from pocketdit.errors import ConfigError


def require_compilable(training: Training) -> None:
    """Raise ``ConfigError`` if the blocks would be compiled for a CPU.

    On a CPU, torch cannot compile a block once for all text lengths. It would need a separate graph for each width and
    length, and each graph would take minutes to compile.
    """
    if training.compile and (training.accelerator == "cpu" or not torch.accelerator.is_available()):
        raise ConfigError(
            "training.compile requires a GPU, because compiling for a CPU takes longer than it saves; "
            "set training.compile to false"
        )


def compile_blocks(network: Backbone) -> None:
    """Compile every transformer block in place.

    The blocks of a level share one compiled graph per width and image size.
    """
    # Each width and image size needs its own graph. If there are more graphs than the limit, torch silently falls back
    # to eager mode.
    torch._dynamo.config.recompile_limit = 256
    for block in network.blocks():
        block.compile()
