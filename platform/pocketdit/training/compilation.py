"""``torch.compile`` for the blocks of a backbone."""

import torch

from pocketdit.backbones.dit import ElasticDiT, Stage


def compile_blocks(network: ElasticDiT) -> None:
    """``torch.compile`` every block in place; blocks of a level share what was compiled for a width and a bucket."""
    # One graph a width and picture size; the default limit would fall back to eager without a word.
    torch._dynamo.config.recompile_limit = 256
    for stage in network.stages:
        assert isinstance(stage, Stage)
        for block in stage.blocks:
            block.compile()
