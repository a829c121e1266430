"""Compilation of a backbone's blocks with ``torch.compile``."""

import torch

from pocketdit.backbones.dit import ElasticDiT


def compile_blocks(network: ElasticDiT) -> None:
    """Compile every transformer block in place.

    The blocks of a level share one compiled graph per width and image size.
    """
    # Each width and image size needs its own graph. Beyond the default limit, torch silently falls back to eager mode.
    torch._dynamo.config.recompile_limit = 256
    for block in network.blocks():
        block.compile()
