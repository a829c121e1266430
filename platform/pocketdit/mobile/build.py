"""Build the mobile form of a network and of its text projection."""

from typing import assert_never

from torch import nn

from pocketdit.backbones.build import Backbone
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.unet import UNet
from pocketdit.mobile.attention import Blockwise
from pocketdit.mobile.dit import MobileTextProjection, build_mobile, build_text_projection
from pocketdit.mobile.unet import MobileUNet


def build_mobile_form(
    network: Backbone, size: tuple[int, int], blockwise: Blockwise = "batched", query_chunk: int = 0
) -> tuple[nn.Module, MobileTextProjection]:
    """Build the mobile forms of a single-width network and its text projection, sharing the memory of all matrices.

    Raises:
        ValueError: The network does not support the size, or its blocks cannot be batched.
    """
    match network:
        case ElasticDiT():
            return build_mobile(network, size, blockwise, query_chunk)
        case UNet():
            mobile = MobileUNet(network, size, query_chunk)
            return mobile.requires_grad_(False).eval(), build_text_projection(network.state_dict(), network.spec)
        case _:
            assert_never(network)
