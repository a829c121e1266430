"""Compare the time of a forward pass of ladder D with that of ladder A and of PixArt and Sana at D's size.

    python benchmarks/forward.py [--dtype bfloat16] [--json PATH]

All networks have random weights and run without gradients on one sample of 4096 image tokens and 77 text tokens, by
default in fp32 on a CPU and in bf16 on a GPU. PixArt and Sana come from diffusers. They keep their published width,
heads and feed-forward layers, and their depth is chosen to match D's number of parameters as closely as possible. The
first ratio, time(A) / time(D) divided by FLOPs(A) / FLOPs(D), shows how much of the saving in FLOPs becomes a saving in
time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import (
    Ratio,
    argument_parser,
    default_device,
    format_median,
    paired_ratio,
    print_machine,
    table,
    time_alternately,
    verdict,
    write_result,
)
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import DiTSpec
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.contract import TextTokens
from pocketdit.training.cost import count_parameters, network_inputs

PAPER = Path(__file__).parent.parent / "experiments" / "paper"
REQUIRED = 0.9
PARAMETER_TOLERANCE = 0.03  # as a fraction of D's number of parameters
PATCH = 2
PEERS = ("PixArt", "Sana")

Forward = Callable[[Tensor, Tensor, TextTokens], object]


@dataclass
class Candidate:
    """A network to time.

    Attributes:
        network: The network.
        forward: Function that calls the network with latents, time and text.
        flops: FLOPs of one forward pass.
    """

    network: nn.Module
    forward: Forward
    flops: float = 0.0


def ladder_spec(letter: str, quick: bool) -> DiTSpec:
    """Return the spec of a shipped ladder network or, with ``quick``, of a narrower one with one block per level."""
    spec = load(PAPER / f"ladder_{letter.lower()}.yaml", [], Experiment).config.dit
    if quick:
        levels = tuple(replace(level, depth=1, long_skips=False) for level in spec.levels)
        spec = replace(spec, width=256, levels=levels, text_width=64)
    return spec


def build_pixart(layers: int, spec: DiTSpec, sides: tuple[int, int]) -> nn.Module:
    """Build PixArt-alpha: 16 heads with 72 channels, feed-forward ratio 4."""
    from diffusers import PixArtTransformer2DModel

    network: nn.Module = PixArtTransformer2DModel(
        in_channels=spec.latent_channels,
        out_channels=spec.latent_channels,
        num_layers=layers,
        sample_size=max(sides),
        patch_size=PATCH,
        caption_channels=spec.text_inputs[0],
        use_additional_conditions=False,
    )
    return network


def build_sana(layers: int, spec: DiTSpec, sides: tuple[int, int]) -> nn.Module:
    """Build Sana 0.6B: 36 heads with 32 channels, feed-forward ratio 2.5.

    The published patch size is 1, for an autoencoder that downsamples by 32. With the latents of this benchmark, which
    are downsampled by 8, a patch size of 2 gives Sana as many tokens as the other networks.
    """
    from diffusers import SanaTransformer2DModel

    network: nn.Module = SanaTransformer2DModel(
        in_channels=spec.latent_channels,
        out_channels=spec.latent_channels,
        num_attention_heads=36,
        attention_head_dim=32,
        num_layers=layers,
        num_cross_attention_heads=16,
        cross_attention_head_dim=72,
        cross_attention_dim=1152,
        caption_channels=spec.text_inputs[0],
        sample_size=max(sides),
        patch_size=PATCH,
    )
    return network


def build_to_size(build: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """Build a network on the meta device, at the depth that brings it closest to a number of parameters."""
    with torch.device("meta"):
        one, two = count_parameters(build(1)), count_parameters(build(2))
        return build(max(1, round((parameters - one) / (two - one)) + 1))


def call_ours(network: nn.Module, x: Tensor, time: Tensor, text: TextTokens) -> object:
    """Call this project's network."""
    return network(x, time, [text])


def call_pixart(network: nn.Module, x: Tensor, time: Tensor, text: TextTokens) -> object:
    """Call diffusers' PixArt."""
    sizes = {"resolution": None, "aspect_ratio": None}
    return network(
        x,
        encoder_hidden_states=text.embeddings,
        timestep=1000 * time,
        added_cond_kwargs=sizes,
        encoder_attention_mask=text.mask,
        return_dict=False,
    )


def call_sana(network: nn.Module, x: Tensor, time: Tensor, text: TextTokens) -> object:
    """Call diffusers' Sana."""
    return network(
        x,
        encoder_hidden_states=text.embeddings,
        timestep=1000 * time,
        encoder_attention_mask=text.mask,
        return_dict=False,
    )


def build_candidates(sides: tuple[int, int], quick: bool) -> dict[str, Candidate]:
    """Build all networks on the meta device and count the FLOPs of a forward pass."""
    candidates: dict[str, Candidate] = {}
    for letter in ("A", "D"):
        with torch.device("meta"):
            ours = ElasticDiT(ladder_spec(letter, quick))
        call = partial(call_ours, ours)
        candidates[letter] = Candidate(ours, call, count_flops(call, ours.spec, sides))
    spec, parameters = ladder_spec("D", quick), count_parameters(candidates["D"].network)
    for name, build, forward in ((PEERS[0], build_pixart, call_pixart), (PEERS[1], build_sana, call_sana)):
        network = build_to_size(partial(build, spec=spec, sides=sides), parameters)
        call = partial(forward, network)
        candidates[name] = Candidate(network, call, count_flops(call, spec, sides))
    return candidates


def count_flops(forward: Forward, spec: DiTSpec, sides: tuple[int, int]) -> float:
    """Count the FLOPs of a forward pass on the meta device."""
    x, time, text = network_inputs(spec, 1, sides, "meta")
    with FlopCounterMode(display=False) as counter:
        forward(x, time, text[0])
    flops: int = counter.get_total_flops()
    return flops


def materialize(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network off the meta device and fill its parameters and buffers with random values."""
    nn.Module.to(network.to_empty(device=device), dtype).eval()  # diffusers' .to() would warn about the dtype
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.is_floating_point():
            tensor.normal_(std=0.02)


def random_inputs(
    spec: DiTSpec, sides: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, TextTokens]:
    """Draw random latents and text tokens for one sample at t = 0.5."""
    x, time, (text,) = network_inputs(spec, 1, sides, str(device))
    tokens = TextTokens(torch.randn_like(text.embeddings, dtype=dtype), text.mask)
    return torch.randn_like(x, dtype=dtype), torch.full_like(time, 0.5, dtype=dtype), tokens


def time_candidates(
    candidates: Mapping[str, Candidate], sides: tuple[int, int], dtype: torch.dtype, rounds: int
) -> dict[str, list[float]]:
    """Time all networks alternately, after a warm-up pass on a sixteenth of the tokens."""
    device = default_device()
    ours = candidates["D"].network
    assert isinstance(ours, ElasticDiT)
    for candidate in candidates.values():
        materialize(candidate.network, device, dtype)
        candidate.forward(*random_inputs(ours.spec, (sides[0] // 4, sides[1] // 4), device, dtype))
    inputs = random_inputs(ours.spec, sides, device, dtype)
    calls = {name: partial(candidate.forward, *inputs) for name, candidate in candidates.items()}
    return time_alternately(calls, rounds, warmup=3 if device.type == "cuda" else 0)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed passes per network (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="bfloat16" if default_device().type == "cuda" else "float32",
        help="dtype of weights and inputs (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    print_machine()
    sides = (16, 16) if args.quick else (128, 128)
    candidates = build_candidates(sides, args.quick)
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32
    seconds = time_candidates(candidates, sides, dtype, 1 if args.quick else args.rounds)

    d = candidates["D"]
    rows: list[dict[str, Any]] = [
        {
            "network": name,
            "parameters": count_parameters(candidate.network),
            "flops": candidate.flops,
            "seconds": seconds[name],
            "time_over_d": paired_ratio(seconds[name], seconds["D"]),
            "flops_over_d": candidate.flops / d.flops,
        }
        for name, candidate in candidates.items()
    ]
    cells = [
        [
            row["network"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['flops'] / 1e9:,.1f} G",
            format_median(row["seconds"]),
            row["time_over_d"],
            f"{row['flops_over_d']:.2f}",
        ]
        for row in rows
    ]
    tokens = sides[0] * sides[1] // PATCH**2
    print(f"batch size 1, {tokens} image tokens, 77 text tokens, {args.dtype}\n")
    print(table(["network", "parameters", "FLOPs", "median", "time / D", "FLOPs / D"], cells), end="\n\n")
    report_conclusion(rows, args.dtype, args.json)


def report_conclusion(rows: Sequence[dict[str, Any]], dtype: str, json_path: Path | None) -> None:
    """Print whether the requirements are met, and write the JSON file."""
    by_name = {row["network"]: row for row in rows}
    a, d = by_name["A"], by_name["D"]
    ratio = Ratio(*(value / a["flops_over_d"] for value in vars(a["time_over_d"]).values()))
    peers = [by_name[name] for name in PEERS]
    for peer in peers:
        difference = peer["parameters"] / d["parameters"] - 1
        if abs(difference) > PARAMETER_TOLERANCE:
            print(
                f"{peer['network']} is not comparable: its number of parameters differs from D's by {difference:+.1%}"
            )
    beaten = all(peer["time_over_d"].median > 1 for peer in peers)
    met = ratio.median >= REQUIRED and beaten
    others = ", ".join(f"{peer['network']} / D = {peer['time_over_d']}" for peer in peers)
    print(
        f"ratio: (A / D in time) / (A / D in FLOPs) = {ratio} (at least {REQUIRED}); {others} (each above 1): "
        f"{verdict(met)}"
    )
    write_result(
        {
            "benchmark": "forward",
            "dtype": dtype,
            "rows": rows,
            "ratio": ratio,
            "required": REQUIRED,
            "peers": {peer["network"]: median(peer["seconds"]) / median(d["seconds"]) for peer in peers},
            "met": met,
        },
        json_path,
    )


if __name__ == "__main__":
    main()
