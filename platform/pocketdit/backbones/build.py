"""Builds the network that a specification describes."""

from typing import TypeAlias, assert_never

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import BackboneSpec, DiTSpec, UNetSpec
from pocketdit.backbones.unet import UNet

Backbone: TypeAlias = ElasticDiT | UNet


def build_network(spec: BackboneSpec) -> Backbone:
    """Build a newly initialized network."""
    match spec:
        case DiTSpec():
            return ElasticDiT(spec)
        case UNetSpec():
            return UNet(spec)
        case _:
            assert_never(spec)
