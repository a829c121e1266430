"""``lightning sample``, which samples a grid of prompts and widths from a trained run."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pocketdit.config.image_size import parse_size
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from pocketdit.artifacts.run_folder import RunFolder
    from pocketdit.config.experiment import Experiment

SAMPLING_OPTIONS = ("prompts", "steps", "sampler", "guidance", "seed", "size")


def add_sample(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    sample = subparsers.add_parser(
        "sample",
        help="sample images from prompts",
        description="Sample images from prompts at one or more widths of a run, and write them to one PNG file.",
    )
    sample.add_argument("run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    sample.add_argument("prompts", nargs="*", metavar="prompt", help="prompts (default: the prompts of the run)")
    sample.add_argument("--width", type=float, nargs="+", metavar="W", help="widths (default: all widths of the run)")
    sample.add_argument("--steps", type=int, help="number of sampling steps")
    sample.add_argument("--sampler", choices=get_args(SamplerName), help="sampler")
    sample.add_argument("--guidance", type=float, help="scale of classifier-free guidance; 1 disables it")
    sample.add_argument("--seed", type=int, help="seed of the initial noise")
    sample.add_argument("--size", metavar="HxW", help="image height and width in pixels, for example 128x128")
    sample.add_argument("--decoder", metavar="RUN", help="decode with the tiny decoder of this run")
    sample.add_argument("--out", type=Path, default=Path("sample.png"), help="PNG file to write (default: %(default)s)")
    sample.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    sample.set_defaults(call=call_sample)


def call_sample(args: argparse.Namespace) -> None:
    """Check the options, then sample images and write the grid."""
    if args.size:
        try:
            args.size = parse_size(args.size, "--size ")
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps {args.steps}: must be at least 1")
    from pocketdit.artifacts.run_folder import find, load_experiment

    folder = find(args.runs, args.run)
    decoder = find(args.runs, args.decoder) if args.decoder else None
    experiment = load_experiment(folder)
    options = {name: getattr(args, name) for name in SAMPLING_OPTIONS if getattr(args, name) not in (None, [])}
    if "prompts" in options:
        options["prompts"] = tuple(options["prompts"])
    try:
        experiment = dataclasses.replace(experiment, sampling=dataclasses.replace(experiment.sampling, **options))
        experiment.check()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    widths = sorted(experiment.backbone.widths)
    for width in args.width or ():
        if width not in widths:
            raise ConfigError(
                f"--width {width:g}: {folder.name} only has the widths {', '.join(f'{w:g}' for w in widths)}"
            )
    require_writable_png(args.out)
    from pocketdit.running.sampling_memory import require_sampling_memory

    option = "--size" if args.size else f"sampling.size of {folder.name}"
    require_sampling_memory(experiment, experiment.sampling.size, len(experiment.sampling.prompts), option)
    write_grid(folder, experiment, sorted(args.width or widths), args.out, decoder)


def require_writable_png(path: Path) -> None:
    """Check that a PNG file can be written, before images are sampled.

    Raises:
        ConfigError: The file is not a PNG file, or its folder is not writable.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {path}: must end with .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot create the folder {path.parent} ({error.strerror})") from None
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--out {path}: the folder {path.parent} is not writable")


def write_grid(
    folder: "RunFolder", experiment: "Experiment", widths: list[float], out: Path, decoder: "RunFolder | None"
) -> None:
    """Sample images at all widths and write them as a grid.

    Args:
        folder: The run.
        experiment: Configuration of the run, with the sampling settings to use.
        widths: Widths to sample.
        out: Path of the PNG file.
        decoder: Run of the tiny decoder to use, if any.
    """
    import torch
    from PIL.PngImagePlugin import PngInfo

    from pocketdit.artifacts.decoder import with_decoder
    from pocketdit.artifacts.network import load_network
    from pocketdit.artifacts.notice import read_notice
    from pocketdit.encoders.conditioning import is_empty
    from pocketdit.files import write_atomically
    from pocketdit.images import require_finite, to_uint8
    from pocketdit.running.assemble import build_encoders
    from pocketdit.running.grids import image_grid
    from pocketdit.sampling import sample
    from pocketdit.training.precision import inference_autocast

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, encoders, sampling = load_network(folder, device), build_encoders(experiment), experiment.sampling
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
    encoders.to(torch.device(device))
    if any(map(is_empty, sampling.prompts)):
        print("note: an empty prompt is sampled without text")
    rows = []
    for width in widths:
        with inference_autocast(experiment.training.precision, device):
            images = sample(network, encoders, sampling.prompts, width, sampling)
        rows.append(to_uint8(require_finite(images, f"{folder.name} at width {width:g}")))
        print(f"width {width:g}: {len(sampling.prompts)} images, {sampling.steps} sampling steps ({sampling.sampler})")
    grid = image_grid(rows, [f"{width:g}x" for width in widths], sampling.prompts)
    text = PngInfo()
    if notice := read_notice(folder):
        text.add_itxt("Copyright", notice)
        print(f"note: {notice.rstrip()}")
    write_atomically(out, lambda temporary: grid.save(temporary, format="PNG", pnginfo=text))
    print(out)
