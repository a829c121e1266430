"""The tiny decoder against autoencoders' own: PSNR and time on held-out images, then time and memory at 1024x1024.

    python -m benchmarks.tiny_decoder [--run tiny_decoder] [--picture docs/tiny_decoder.png] [--json PATH]

With --run: a run's decoder against its autoencoder's, on the run's validation images. Then the decoder of
experiments/paper/tiny_decoder_qwen_image.yaml against those of Flux and Qwen-Image at their published sizes, with
random weights (times need no others, and nothing is said of quality), in fp32 on a CPU and bf16 on a GPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.forward import materialise
from benchmarks.timing import PeakMemory, alternate, announce, device, milliseconds, options, pairwise, report, table
from pocketdit.artifacts.decoder import load_decoder
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.config.component import build
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder
from pocketdit.files import write_atomically
from pocketdit.losses.reconstruction import psnr
from pocketdit.running.assemble import build_data
from pocketdit.running.cost_estimate import count_parameters
from pocketdit.running.grids import grid, to_uint8

PAPER = Path(__file__).parent.parent / "experiments" / "paper" / "tiny_decoder_qwen_image.yaml"
REQUIRED = 10.0  # below it, a decoder would not be worth what it loses
SHOWN, ZOOM = 6, 2


class Pictures(NamedTuple):
    """Held-out images of one size, as they are and from both decoders, (B, 3, H, W); what they show; the latents."""

    original: Tensor
    own: Tensor
    tiny: Tensor
    captions: list[str]
    latents: Tensor


@torch.no_grad()
def held_out(experiment: DecoderExperiment, autoencoder: Autoencoder, decoder: TinyDecoder) -> list[Pictures]:
    """All validation images of a run, batch by batch."""
    data = build_data(experiment)
    found = []
    for batch in data.val_dataloader():
        images = batch["images"].float() / 127.5 - 1
        latents = autoencoder.encode(images)
        found.append(Pictures(images, autoencoder.decode(latents), decoder.decode(latents), batch["captions"], latents))
    data.teardown()
    return found


def on_held_out_images(run: str, runs: Path, picture: Path | None, rounds: int) -> list[dict[str, Any]]:
    """PSNR and time of a run's decoder and of its autoencoder's; the picture with both, where one is wanted."""
    folder = find(runs, run)
    experiment: DecoderExperiment = load_experiment(folder, DecoderExperiment)
    autoencoder, decoder = build(experiment.autoencoder), load_decoder(folder)
    found = held_out(experiment, autoencoder, decoder)
    own = torch.cat([psnr(pictures.own, pictures.original) for pictures in found])
    tiny = torch.cat([psnr(pictures.tiny, pictures.original) for pictures in found])
    calls = {
        "autoencoder's own": partial(autoencoder.decode, found[0].latents),
        "tiny": partial(decoder.decode, found[0].latents),
    }
    seconds = alternate(calls, rounds, warmup=2, at_least=0.05)
    rows: list[dict[str, Any]] = [
        {"decoder": name, "parameters": parameters, "psnr": float(values.mean()), "seconds": seconds[name]}
        for name, parameters, values in (
            ("autoencoder's own", count_parameters(autoencoder), own),
            ("tiny", count_parameters(decoder), tiny),
        )
    ]
    count, height, width = (found[0].original.shape[i] for i in (0, 2, 3))
    print(f"{folder.name}, {len(own)} held-out images; time of {count} of {height}x{width} pixels\n")
    cells = [
        [row["decoder"], f"{row['parameters']:,}", f"{row['psnr']:.2f} dB", milliseconds(row["seconds"])]
        for row in rows
    ]
    print(table(["decoder", "parameters", "PSNR", "median"], cells))
    better = float((tiny > own).float().mean())
    print(f"tiny - own: {tiny.mean() - own.mean():+.2f} dB in the mean, better on {better:.0%} of the images")
    print(f"time: tiny / own = {pairwise(seconds['tiny'], seconds[rows[0]['decoder']])}\n")
    if picture is not None:
        draw(found[0], picture)
    return rows


def draw(pictures: Pictures, path: Path) -> None:
    """The first images in rows: original, the autoencoder's own decoder, the tiny decoder, with the PSNR of both."""
    rows = {"original": pictures.original, "autoencoder": pictures.own, "tiny decoder": pictures.tiny}
    large = [interpolate(images[:SHOWN], scale_factor=float(ZOOM), mode="nearest") for images in rows.values()]
    own, tiny = (psnr(images, pictures.original) for images in (pictures.own, pictures.tiny))
    words = [f"{a:.1f} dB autoencoder, {b:.1f} dB tiny decoder" for a, b in zip(own[:SHOWN], tiny[:SHOWN], strict=True)]
    image = grid([to_uint8(images) for images in large], list(rows), words)
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    print(f"picture: {path}\n")


def flux(quick: bool) -> nn.Module:
    """The decoder in FLUX.1's AutoencoderKL."""
    from diffusers import AutoencoderKL

    decoder: nn.Module = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8) if quick else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=4 if quick else 32,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).decoder
    return decoder


class QwenImageDecoder(nn.Module):
    """The decoding half of Qwen-Image's video autoencoder, on films of one frame."""

    def __init__(self, quick: bool) -> None:
        from diffusers import AutoencoderKLQwenImage

        super().__init__()
        whole = AutoencoderKLQwenImage(base_dim=8 if quick else 96, z_dim=16)
        self.post_quant_conv, self.decoder = whole.post_quant_conv, whole.decoder

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(self.post_quant_conv(latents[:, :, None]))
        return images[:, :, 0]


def tiny(quick: bool) -> nn.Module:
    spec = load(PAPER, [], DecoderExperiment).config.decoder
    return TinyDecoder(replace(spec, channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)) if quick else spec)


DECODERS: dict[str, Callable[[bool], nn.Module]] = {"tiny": tiny, "Flux": flux, "Qwen-Image": QwenImageDecoder}


@torch.no_grad()
def at_paper_scale(side: int, quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Parameters, FLOPs, peak memory and seconds of decoding one picture of ``side`` pixels a side, all in turns."""
    on = device()
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    shape = (1, 16, side // 8, side // 8)
    rows, calls, grown = [], {}, dict.fromkeys(DECODERS, 0)

    def decode(name: str, decoder: nn.Module, latents: Tensor) -> None:
        memory = PeakMemory()
        decoder(latents)
        grown[name] = max(grown[name], memory.growth())

    for name, make in DECODERS.items():
        with torch.device("meta"):
            decoder = make(quick)
        with FlopCounterMode(display=False) as counter:
            decoder(torch.empty(shape, device="meta"))
        materialise(decoder, on, dtype)
        calls[name] = partial(decode, name, decoder, torch.randn(shape, device=on, dtype=dtype))
        rows.append({"decoder": name, "parameters": count_parameters(decoder), "flops": counter.get_total_flops()})
    seconds = alternate(calls, rounds, warmup=3 if on.type == "cuda" else 0)
    return [row | {"seconds": seconds[row["decoder"]], "memory": grown[row["decoder"]]} for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--run", help="a run of a tiny decoder: its PSNR and time, too")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="with --run: draw held-out images side by side")
    parser.add_argument("--side", type=int, default=1024, help="of the picture at paper scale (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each time (default %(default)s)")
    chosen = parser.parse_args(arguments)
    announce()
    rounds = 1 if chosen.quick else chosen.rounds
    quality = on_held_out_images(chosen.run, chosen.runs, chosen.picture, rounds) if chosen.run else []

    side = 32 if chosen.quick else chosen.side
    rows = at_paper_scale(side, chosen.quick, rounds)
    base = rows[0]
    for row in rows:
        row["time_over_tiny"] = pairwise(row["seconds"], base["seconds"])
        row["flops_over_tiny"] = row["flops"] / base["flops"]
    cells = [
        [
            row["decoder"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['flops'] / 1e9:,.0f} G",
            milliseconds(row["seconds"]),
            f"{row['memory'] / 2**20:,.0f} MiB",
            row["time_over_tiny"],
            f"{row['flops_over_tiny']:.1f}",
        ]
        for row in rows
    ]
    print(f"one picture of {side}x{side} pixels, random weights\n")
    header = ["decoder", "parameters", "FLOPs", "median", "peak memory", "time / tiny", "FLOPs / tiny"]
    print(table(header, cells), end="\n\n")
    least = min(rows[1:], key=lambda row: median(row["seconds"]))
    ratio = least["time_over_tiny"]
    better = not quality or quality[1]["psnr"] > quality[0]["psnr"]
    met = ratio.median >= REQUIRED and better
    beside = ", PSNR above the autoencoder's own required" if quality else ""
    verdict = "met" if met else "NOT met"
    print(f"ratio: {least['decoder']} / tiny in time = {ratio}, required {REQUIRED}{beside}: {verdict}")
    result = {"benchmark": "tiny_decoder", "rows": rows, "held_out": quality, "ratio": ratio}
    report(result | {"required": REQUIRED, "met": met}, chosen.json)


if __name__ == "__main__":
    main()
