"""``torch.compile`` for the blocks of a backbone."""

import torch

from pocketdit.backbones.dit import ElasticDiT


def compile_blocks(network: ElasticDiT) -> None:
    """Compile every transformer block in place.

    Blocks of a level share the graph compiled for a width and an image size.
    """
    # One graph per width and image size; beyond the default limit torch silently falls back to eager mode.
    torch._dynamo.config.recompile_limit = 256
    for block in network.blocks():
        block.compile()
