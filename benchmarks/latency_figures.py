"""Published latencies that the latency model is not fitted to, and censuses of their graphs.

None of the graphs is published as a package, so they are traced from diffusers' models and from our decoder. Attention
is written as split einsums, as in the deployments that were measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.export.common.census import Census
from pocketdit.latency.traced_census import trace_module
from pocketdit.mobile.split_einsum import chunked_attention

DECODER = Path(__file__).parent.parent / "experiments" / "paper" / "tiny_decoder_qwen_image.yaml"


@dataclass(frozen=True)
class Figure:
    """A published latency.

    Attributes:
        graph: Name of the graph in ``trace_graphs`` or, for "small", in the ladder.
        title: Name in tables.
        device: Name of the device.
        milliseconds: Latency of one evaluation.
    """

    graph: str
    title: str
    device: str
    milliseconds: float


# Measured on the calibrated device. The paper gives 360 ms both for ladder D, which is part of the fit, and for the
# small model, which differs by its second text encoder (Table 2). The decoder of the paper and SnapGen's U-Net are not
# published: the decoder is ours, with the same number of parameters, and the U-Net is that of DreamLite, which has the
# same widths and depths (arXiv 2603.28713).
ON_PHONE = (
    Figure("small", "small (0.5x)", "iphone16promax", 360.0),
    Figure("decoder", "tiny decoder, 1.37 M", "iphone16promax", 120.0),
    Figure("snapgen", "U-Net like SnapGen's", "iphone16promax", 274.0),
)
# Steps per second with guidance, which is one evaluation with a batch of two (apple/ml-stable-diffusion, README.md,
# "Performance Benchmarks": stable-diffusion-2-1-base, 512x512, CPU_AND_NE, SPLIT_EINSUM_V2).
OTHER_DEVICES = tuple(
    Figure("stable_diffusion", "Stable Diffusion 2.1, batch 2", device, 1000 / steps)
    for device, steps in (
        ("iphone12pro", 1.45),
        ("iphone13pro", 2.55),
        ("iphone14pro", 2.69),
        ("mac_m1", 2.19),  # an iPad Pro with the same chip
        ("mac_m2", 3.07),  # an iPad Pro with the same chip
    )
)


@cache
def trace_graphs() -> Mapping[str, Census]:
    """Trace the graphs of all figures, which takes about ten seconds."""
    with torch.device("meta"):
        censuses = {
            "decoder": trace_module(_half(TinyDecoder(load(DECODER, [], DecoderExperiment).config.decoder)),
                                    _empty(1, 16, 128, 128)),
            "snapgen": trace_module(_snapgen(), _empty(1, 16, 128, 128), _empty(1), _empty(1, 77, 2048),
                                    added_cond_kwargs={"time_ids": _empty(1, 2)}),
            "stable_diffusion": trace_module(_stable_diffusion(), _empty(2, 4, 64, 64), _empty(2), _empty(2, 77, 1024)),
        }  # fmt: skip
    return {name: census.merged() for name, census in censuses.items()}


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def _half(module: nn.Module) -> nn.Module:
    return module.half().to("meta")


class DecomposedGroupNorm(nn.Module):
    """Group norm as the operations that Core ML has. There is no single operation for it.

    Args:
        norm: The norm.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps, self.weight, self.bias = norm.num_groups, norm.eps, norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C, H, W)."""
        grouped = x.reshape(x.shape[0], self.groups, -1)
        centered = grouped - grouped.mean(2, keepdim=True)
        scale = (centered.square().mean(2, keepdim=True) + self.eps).rsqrt()
        return (centered * scale).reshape(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]


def _mobile(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, DecomposedGroupNorm(child))
    return _half(network)


def _stable_diffusion() -> nn.Module:
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    )
    network.set_attn_processor(SplitEinsum(512))
    return _mobile(network)


def _snapgen() -> nn.Module:
    from diffusers import DreamLiteUNetModel

    network = DreamLiteUNetModel(
        sample_size=128, in_channels=16, out_channels=16, block_out_channels=(256, 512, 896),
        attention_head_dim=(4, 8, 14), transformer_layers_per_block=(1, 2, 4), layers_per_block=2, num_kv_heads=1,
        qk_norm="rms_norm", ff_mult=3, use_sep_conv=True, use_linear_projection=True, cross_attention_dim=768,
        encoder_hid_dim=2048, encoder_hid_dim_type="text_proj_rms", addition_embed_type="time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=512,
    )  # fmt: skip
    network.set_attn_processor(SplitEinsum(1024))
    return _mobile(network)


class SplitEinsum:
    """Attention processor for diffusers' models that computes two einsums per head and chunk of queries.

    Args:
        chunk: Number of queries to process at a time.
    """

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Compute the attention (B, N, D) of ``hidden_states`` (B, N, D), to itself or to ``encoder_hidden_states``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        head_dim = q.shape[-1] // attn.heads
        if getattr(attn, "norm_q", None) is not None:
            q = attn.norm_q(q.unflatten(-1, (-1, head_dim))).flatten(-2)
            k = attn.norm_k(k.unflatten(-1, (-1, head_dim))).flatten(-2)
        q, k, v = (x.transpose(1, 2)[:, :, None] for x in (q, k, v))
        attended = chunked_attention(q, k.transpose(1, 3), v, head_dim, self.chunk)
        output: Tensor = attn.to_out[0](attended[:, :, 0].transpose(1, 2))
        return output
