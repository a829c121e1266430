"""Compare the tiny decoder with the decoders of autoencoders in PSNR, time, FLOPs and memory.

    python -m benchmarks.tiny_decoder [--run tiny_decoder] [--image docs/images/tiny_decoder.png] [--json PATH]

With --run, the first part compares a run's decoder with that of its autoencoder on the run's validation images. The
second part compares the decoder of experiments/paper/tiny_decoder_qwen_image.yaml with those of Flux and Qwen-Image at
their published sizes, in fp32 on a CPU and in bf16 on a GPU. All weights in the second part are random, so it says
nothing about quality.

Shape letters: B = batch, C = latent channels, h x w = latent sides, H x W = image sides.
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

from benchmarks.forward import materialize
from benchmarks.timing import (
    PeakMemory,
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
from pocketdit.artifacts.decoder import load_decoder
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.config.component import build
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder
from pocketdit.files import write_atomically
from pocketdit.images import from_uint8, to_uint8
from pocketdit.losses.reconstruction import psnr
from pocketdit.running.assemble import build_data
from pocketdit.running.grids import image_grid
from pocketdit.training.cost import count_parameters

PAPER = Path(__file__).parent.parent / "experiments" / "paper" / "tiny_decoder_qwen_image.yaml"
REQUIRED = 10.0  # a smaller speedup would not be worth the loss in quality
SHOWN, ZOOM = 6, 2


class DecodedBatch(NamedTuple):
    """A batch of held-out images, with their latents and their reconstructions by both decoders."""

    original: Tensor
    """The images (B, 3, H, W)."""
    own: Tensor
    """Reconstructions (B, 3, H, W) by the autoencoder's own decoder."""
    tiny: Tensor
    """Reconstructions (B, 3, H, W) by the tiny decoder."""
    latents: Tensor
    """The images' latents (B, C, h, w)."""


@torch.no_grad()
def decode_validation_images(
    experiment: DecoderExperiment, autoencoder: Autoencoder, decoder: TinyDecoder
) -> list[DecodedBatch]:
    """Decode all validation images of a run, batch by batch."""
    data = build_data(experiment)
    batches = []
    for batch in data.val_dataloader():
        images = from_uint8(batch["images"])
        latents = autoencoder.encode(images)
        batches.append(DecodedBatch(images, autoencoder.decode(latents), decoder.decode(latents), latents))
    data.teardown("validate")
    return batches


def compare_on_validation_images(run: str, runs: Path, image: Path | None, rounds: int) -> list[dict[str, Any]]:
    """Compare a run's decoder with its autoencoder's in PSNR and time, and save example images if ``image`` is set."""
    folder = find(runs, run)
    experiment: DecoderExperiment = load_experiment(folder, DecoderExperiment)
    autoencoder, decoder = build(experiment.autoencoder), load_decoder(folder)
    batches = decode_validation_images(experiment, autoencoder, decoder)
    own = torch.cat([psnr(batch.own, batch.original) for batch in batches])
    tiny = torch.cat([psnr(batch.tiny, batch.original) for batch in batches])
    calls = {
        "autoencoder's own": partial(autoencoder.decode, batches[0].latents),
        "tiny": partial(decoder.decode, batches[0].latents),
    }
    seconds = time_alternately(calls, rounds, warmup=2, at_least=0.05)
    rows: list[dict[str, Any]] = [
        {"decoder": name, "parameters": parameters, "psnr": float(values.mean()), "seconds": seconds[name]}
        for name, parameters, values in (
            ("autoencoder's own", count_parameters(autoencoder), own),
            ("tiny", count_parameters(decoder), tiny),
        )
    ]
    count, height, width = (batches[0].original.shape[i] for i in (0, 2, 3))
    print(f"{folder.name}, {len(own)} held-out images; time for {count} images of {height}x{width} pixels\n")
    cells = [
        [row["decoder"], f"{row['parameters']:,}", f"{row['psnr']:.2f} dB", format_median(row["seconds"])]
        for row in rows
    ]
    print(table(["decoder", "parameters", "PSNR", "median"], cells))
    better = float((tiny > own).float().mean())
    print(f"PSNR: tiny - own = {tiny.mean() - own.mean():+.2f} dB on average, higher for {better:.0%} of the images")
    print(f"time: tiny / own = {paired_ratio(seconds['tiny'], seconds[rows[0]['decoder']])}\n")
    if image is not None:
        save_comparison(batches[0], image)
    return rows


def save_comparison(batch: DecodedBatch, path: Path) -> None:
    """Save a grid of the first images and their reconstructions by both decoders, labeled with PSNRs."""
    rows = {"original": batch.original, "autoencoder's decoder": batch.own, "tiny decoder": batch.tiny}
    enlarged = [interpolate(images[:SHOWN], scale_factor=float(ZOOM), mode="nearest") for images in rows.values()]
    own, tiny = (psnr(images, batch.original) for images in (batch.own, batch.tiny))
    labels = [f"PSNR {a:.1f} dB (tiny: {b:.1f} dB)" for a, b in zip(own[:SHOWN], tiny[:SHOWN], strict=True)]
    image = image_grid([to_uint8(images) for images in enlarged], list(rows), labels)
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    print(f"image: {path}\n")


def flux(quick: bool) -> nn.Module:
    """Build the decoder of FLUX.1's AutoencoderKL, or a small version of it."""
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
    """The decoder of Qwen-Image's video autoencoder for videos of one frame, or a small version of it."""

    def __init__(self, quick: bool) -> None:
        from diffusers import AutoencoderKLQwenImage

        super().__init__()
        autoencoder = AutoencoderKLQwenImage(base_dim=8 if quick else 96, z_dim=16)
        self.post_quant_conv, self.decoder = autoencoder.post_quant_conv, autoencoder.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (B, C, h, w) to images (B, 3, H, W)."""
        images: Tensor = self.decoder(self.post_quant_conv(latents[:, :, None]))
        return images[:, :, 0]


def tiny(quick: bool) -> nn.Module:
    """Build the shipped tiny decoder, or a small version of it."""
    spec = load(PAPER, [], DecoderExperiment).config.decoder
    return TinyDecoder(replace(spec, channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)) if quick else spec)


DECODERS: dict[str, Callable[[bool], nn.Module]] = {"tiny": tiny, "Flux": flux, "Qwen-Image": QwenImageDecoder}


@torch.no_grad()
def compare_at_paper_scale(side: int, quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Measure what decoding one image of ``side`` x ``side`` pixels costs with each decoder.

    Returns:
        One row per decoder with its parameters, FLOPs, times in seconds, and peak memory in bytes.
    """
    device = default_device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = (1, 16, side // 8, side // 8)
    rows, calls, peaks = [], {}, dict.fromkeys(DECODERS, 0)

    def decode(name: str, decoder: nn.Module, latents: Tensor) -> None:
        memory = PeakMemory()
        decoder(latents)
        peaks[name] = max(peaks[name], memory.growth())

    for name, build_decoder in DECODERS.items():
        with torch.device("meta"):
            decoder = build_decoder(quick)
        with FlopCounterMode(display=False) as counter:
            decoder(torch.empty(shape, device="meta"))
        materialize(decoder, device, dtype)
        calls[name] = partial(decode, name, decoder, torch.randn(shape, device=device, dtype=dtype))
        rows.append({"decoder": name, "parameters": count_parameters(decoder), "flops": counter.get_total_flops()})
    seconds = time_alternately(calls, rounds, warmup=3 if device.type == "cuda" else 0)
    return [row | {"seconds": seconds[row["decoder"]], "memory": peaks[row["decoder"]]} for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run", help="also compare this run's decoder with that of its autoencoder")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--image", type=Path, metavar="PNG", help="with --run, save validation images to this file")
    parser.add_argument(
        "--side", type=int, default=1024, help="height and width in pixels in the second part (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timings per decoder (default: %(default)s)")
    args = parser.parse_args(arguments)
    print_machine()
    rounds = 1 if args.quick else args.rounds
    quality = compare_on_validation_images(args.run, args.runs, args.image, rounds) if args.run else []

    side = 32 if args.quick else args.side
    rows = compare_at_paper_scale(side, args.quick, rounds)
    base = rows[0]
    for row in rows:
        row["time_over_tiny"] = paired_ratio(row["seconds"], base["seconds"])
        row["flops_over_tiny"] = row["flops"] / base["flops"]
    cells = [
        [
            row["decoder"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['flops'] / 1e9:,.0f} G",
            format_median(row["seconds"]),
            f"{row['memory'] / 2**20:,.0f} MiB",
            row["time_over_tiny"],
            f"{row['flops_over_tiny']:.1f}",
        ]
        for row in rows
    ]
    print(f"one image of {side}x{side} pixels, random weights\n")
    header = ["decoder", "parameters", "FLOPs", "median", "peak memory", "time / tiny", "FLOPs / tiny"]
    print(table(header, cells), end="\n\n")
    fastest = min(rows[1:], key=lambda row: median(row["seconds"]))
    ratio = fastest["time_over_tiny"]
    better = not quality or quality[1]["psnr"] > quality[0]["psnr"]
    met = ratio.median >= REQUIRED and better
    also = "; the PSNR must be above that of the autoencoder's own decoder" if quality else ""
    print(f"ratio: {fastest['decoder']} / tiny in time = {ratio} (at least {REQUIRED}){also}: {verdict(met)}")
    result = {"benchmark": "tiny_decoder", "rows": rows, "held_out": quality, "ratio": ratio}
    write_result(result | {"required": REQUIRED, "met": met}, args.json)


if __name__ == "__main__":
    main()
