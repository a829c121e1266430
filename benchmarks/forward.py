"""One forward pass of ladder D against ladder A, and against diffusers' PixArt and Sana transformers of D's size.

Batch 1, no gradient, 4096 image tokens, 77 text tokens, random weights; fp32 on a CPU, bf16 on a GPU. The peers
keep their published width, heads and FFN and get as many layers as bring them nearest to D's parameters. The
first ratio is time(A) / time(D) over FLOPs(A) / FLOPs(D): the share of the saved arithmetic that is saved time.

    python benchmarks/forward.py [--json PATH]
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

from benchmarks.timing import Ratio, alternate, announce, device, milliseconds, options, pairwise, report, table
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import FULL_WIDTH, DiTSpec
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.contract import TextTokens
from pocketdit.stages.elastic_cost import network_cost
from pocketdit.training.cost import count_parameters, network_inputs

PAPER = Path(__file__).parent.parent / "experiments" / "paper"
REQUIRED = 0.9
CLOSE = 0.03  # of D's parameters
PATCH = 2
PEERS = ("PixArt", "Sana")

Forward = Callable[[Tensor, Tensor, TextTokens], object]


@dataclass
class Contestant:
    """A network and how it is called with latents, time and text."""

    network: nn.Module
    forward: Forward
    flops: float = 0.0


def ladder(letter: str, quick: bool) -> DiTSpec:
    """Of the shipped configuration; ``quick`` has one layer a level."""
    spec = load(PAPER / f"ladder_{letter.lower()}.yaml", [], Experiment).config.backbone
    if quick:
        levels = tuple(replace(level, depth=1, long_skips=False) for level in spec.levels)
        spec = replace(spec, width=256, levels=levels, text_width=64)
    return spec


def pixart(layers: int, spec: DiTSpec, sides: tuple[int, int]) -> nn.Module:
    """PixArt-alpha's sizes: 16 heads of 72 channels, FFN ratio 4."""
    from diffusers import PixArtTransformer2DModel

    return PixArtTransformer2DModel(
        in_channels=spec.latent_channels,
        out_channels=spec.latent_channels,
        num_layers=layers,
        sample_size=max(sides),
        patch_size=PATCH,
        caption_channels=spec.text_inputs[0],
        use_additional_conditions=False,
    )


def sana(layers: int, spec: DiTSpec, sides: tuple[int, int]) -> nn.Module:
    """Sana 0.6 B's sizes: 36 heads of 32 channels, FFN ratio 2.5; patch 2 in place of its 32-fold autoencoder."""
    from diffusers import SanaTransformer2DModel

    return SanaTransformer2DModel(
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


def of_size(build: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """With the number of layers (at least one) that comes nearest to ``parameters``; on the meta device."""
    with torch.device("meta"):
        one, two = count_parameters(build(1)), count_parameters(build(2))
        return build(max(1, round((parameters - one) / (two - one)) + 1))


def call_ours(network: nn.Module, x: Tensor, time: Tensor, text: TextTokens) -> object:
    return network(x, time, [text])


def call_pixart(network: nn.Module, x: Tensor, time: Tensor, text: TextTokens) -> object:
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
    return network(
        x,
        encoder_hidden_states=text.embeddings,
        timestep=1000 * time,
        encoder_attention_mask=text.mask,
        return_dict=False,
    )


def contestants(sides: tuple[int, int], quick: bool) -> dict[str, Contestant]:
    """All networks on the meta device, with the FLOPs of one pass."""
    found: dict[str, Contestant] = {}
    for letter in ("A", "D"):
        with torch.device("meta"):
            ours = ElasticDiT(ladder(letter, quick))
        found[letter] = Contestant(ours, partial(call_ours, ours), network_cost(ours, 1, sides, FULL_WIDTH, [], 0).forward)
    spec = ladder("D", quick)
    for name, build, call in ((PEERS[0], pixart, call_pixart), (PEERS[1], sana, call_sana)):
        network = of_size(partial(build, spec=spec, sides=sides), count_parameters(found["D"].network))
        found[name] = Contestant(network, partial(call, network), counted(partial(call, network), spec, sides))
    return found


def counted(forward: Forward, spec: DiTSpec, sides: tuple[int, int]) -> float:
    x, time, text = network_inputs(spec, 1, sides, "meta")
    with FlopCounterMode(display=False) as counter:
        forward(x, time, text[0])
    return counter.get_total_flops()


def materialise(network: nn.Module, on: torch.device, dtype: torch.dtype) -> None:
    """Give a network from the meta device random weights, and buffers of ordinary size."""
    nn.Module.to(network.to_empty(device=on), dtype).eval()  # diffusers' own .to() warns about other dtypes
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.is_floating_point():
            tensor.normal_(std=0.02)


def inputs(spec: DiTSpec, sides: tuple[int, int], on: torch.device, dtype: torch.dtype) -> tuple:
    x, time, (text,) = network_inputs(spec, 1, sides, str(on))
    drawn = TextTokens(torch.randn_like(text.embeddings, dtype=dtype), text.mask)
    return torch.randn_like(x, dtype=dtype), torch.full_like(time, 0.5, dtype=dtype), drawn


def compare(found: Mapping[str, Contestant], sides: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Seconds of every pass in turns, after one pass of a sixteenth of the tokens as warm-up."""
    on = device()
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    ours = found["D"].network
    assert isinstance(ours, ElasticDiT)
    for contestant in found.values():
        materialise(contestant.network, on, dtype)
        contestant.forward(*inputs(ours.spec, (sides[0] // 4, sides[1] // 4), on, dtype))
    given = inputs(ours.spec, sides, on, dtype)
    calls = {name: partial(contestant.forward, *given) for name, contestant in found.items()}
    return alternate(calls, rounds, warmup=3 if on.type == "cuda" else 0)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="passes of each network (default 3)")
    chosen = parser.parse_args(arguments)
    announce()
    sides = (16, 16) if chosen.quick else (128, 128)
    with torch.enable_grad():  # the cost of a pass is counted with its backward pass
        found = contestants(sides, chosen.quick)
    seconds = compare(found, sides, 1 if chosen.quick else chosen.rounds)

    d = found["D"]
    rows: list[dict[str, Any]] = [
        {
            "network": name,
            "parameters": count_parameters(contestant.network),
            "flops": contestant.flops,
            "seconds": seconds[name],
            "time_over_d": pairwise(seconds[name], seconds["D"]),
            "flops_over_d": contestant.flops / d.flops,
        }
        for name, contestant in found.items()
    ]
    cells = [
        [
            row["network"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['flops'] / 1e9:,.1f} G",
            milliseconds(row["seconds"]),
            row["time_over_d"],
            f"{row['flops_over_d']:.2f}",
        ]
        for row in rows
    ]
    tokens = sides[0] * sides[1] // PATCH**2
    print(f"batch 1, {tokens} image tokens, 77 text tokens; time and FLOPs over those of D\n")
    print(table(["network", "parameters", "FLOPs", "median", "time / D", "FLOPs / D"], cells), end="\n\n")
    conclude(rows, chosen)


def conclude(rows: Sequence[dict[str, Any]], chosen: Any) -> None:
    """The last line, and the JSON."""
    by_name = {row["network"]: row for row in rows}
    a, d = by_name["A"], by_name["D"]
    ratio = Ratio(*(value / a["flops_over_d"] for value in vars(a["time_over_d"]).values()))
    peers = [by_name[name] for name in PEERS]
    for peer in peers:
        apart = peer["parameters"] / d["parameters"] - 1
        if abs(apart) > CLOSE:
            print(f"{peer['network']} has {apart:+.1%} parameters: not comparable")
    beaten = all(peer["time_over_d"].median > 1 for peer in peers)
    met = ratio.median >= REQUIRED and beaten
    others = ", ".join(f"{peer['network']} / D = {peer['time_over_d']}" for peer in peers)
    print(
        f"ratio: A / D in time over A / D in FLOPs = {ratio}, required {REQUIRED}; {others}, required above 1: "
        f"{'met' if met else 'NOT met'}"
    )
    report(
        {
            "benchmark": "forward",
            "rows": rows,
            "ratio": ratio,
            "required": REQUIRED,
            "peers": {peer["network"]: median(peer["seconds"]) / median(d["seconds"]) for peer in peers},
            "met": met,
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
