"""Published latencies that the latency model is not fitted to, and censuses of their graphs.

The graphs are not published as packages, so they are traced from our networks and from diffusers' Stable Diffusion,
whose attention is written as split einsums, as in the deployment that was measured. The censuses are stored in
``latency_graphs``. To trace the graphs again, which takes about ten seconds:

    python -m benchmarks.latency_figures
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.config.experiment import DecoderExperiment, Experiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.export.common.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.traced_census import trace_census, trace_module
from pocketdit.mobile.split_einsum import Heads, chunked_attention

FOLDER = Path(__file__).parent / "latency_graphs"
PAPER = Path(__file__).parent.parent / "experiments" / "paper"
TEXT_TOKENS = 78  # 77 CLIP tokens and one learned token


@dataclass(frozen=True)
class Figure:
    """A published latency.

    Attributes:
        graph: Name of the graph in ``latency_graphs`` or, for "small", in the ladder.
        title: Name in tables.
        device: Name of the device.
        milliseconds: Latency of one evaluation.
    """

    graph: str
    title: str
    device: str
    milliseconds: float


# Measured on the calibrated device. The paper reports 360 ms both for ladder D, which is part of the fit, and for the
# small model, which differs in its second text encoder (Table 2). The paper's decoder and SnapGen's U-Net are not
# published. Our versions are used instead, whose numbers of parameters are within 2% of the published ones.
ON_PHONE = (
    Figure("small", "small (0.5x)", "iphone16promax", 360.0),
    Figure("decoder", "tiny decoder, 1.37 M", "iphone16promax", 120.0),
    Figure("snapgen", "SnapGen's U-Net, 377 M", "iphone16promax", 274.0),
)
# Steps per second with guidance, where each step is one evaluation with a batch of two (apple/ml-stable-diffusion,
# README.md, "Performance Benchmarks": stable-diffusion-2-1-base, 512x512, CPU_AND_NE, SPLIT_EINSUM_V2).
OTHER_DEVICES = tuple(
    Figure("stable_diffusion", "Stable Diffusion 2.1, batch 2", device, 1000 / steps)
    for device, steps in (
        ("iphone12pro", 1.45),
        ("iphone13pro", 2.55),
        ("iphone14pro", 2.69),
        ("mac_m1", 2.19),  # measured on an iPad Pro with the same chip
        ("mac_m2", 3.07),  # measured on an iPad Pro with the same chip
    )
)


def load_graphs() -> Mapping[str, Census]:
    """Load the stored censuses of the graphs of all figures except "small"."""
    return {file.stem: Census.from_json(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}


def trace_graphs() -> Mapping[str, Census]:
    """Trace the graphs of all figures except "small"."""
    decoder = load(PAPER / "tiny_decoder_qwen_image.yaml", [], DecoderExperiment).config.decoder
    snapgen = load(PAPER / "ladder_unet.yaml", [], Experiment).config.backbone
    with torch.device("meta"):
        censuses = {
            "decoder": trace_module(_half(TinyDecoder(decoder)), _empty(1, 16, 128, 128)),
            "snapgen": trace_census(snapgen, 1.0, (128, 128), TEXT_TOKENS, query_chunk=1024),
            "stable_diffusion": trace_module(_stable_diffusion(), _empty(2, 4, 64, 64), _empty(2), _empty(2, 77, 1024)),
        }
    return {name: census.merged() for name, census in censuses.items()}


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def _half(module: nn.Module) -> nn.Module:
    return module.half().to("meta")


class DecomposedGroupNorm(nn.Module):
    """Group norm as a sequence of operations, because Core ML has no single operation for it.

    Args:
        norm: The layer whose settings and parameters are used.
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
        """Compute attention (B, N, D) from ``hidden_states`` (B, N, D) to itself or to ``encoder_hidden_states``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        head_dim = q.shape[-1] // attn.heads
        q, k, v = (x.transpose(1, 2)[:, :, None] for x in (q, k, v))
        attended = chunked_attention(q, k.transpose(1, 3), v, Heads(head_dim), self.chunk)
        output: Tensor = attn.to_out[0](attended[:, :, 0].transpose(1, 2))
        return output


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, census in trace_graphs().items():
        write_atomically(FOLDER / f"{name}.json", census.to_json())
