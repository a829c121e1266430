"""``lightning sample``, which samples images from a run or an export bundle, as a grid or as separate files."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pocketdit.config.image_size import parse_size
from pocketdit.diffusion.sampler_names import NoiseName, SamplerName
from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import is_bundle

if TYPE_CHECKING:
    from evaluation.contract import Prompt
    from pocketdit.config.experiment import Experiment

PNG, OTHER_SUFFIXES = ".png", (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
SAMPLING_OPTIONS = ("prompts", "steps", "sampler", "guidance", "seed", "size", "noise")


def add_sample(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``sample`` subcommand to the parser."""
    sample = subparsers.add_parser(
        "sample",
        help="sample images from prompts",
        description="Sample images from prompts at one or more widths of a run, and write them to one PNG file, or to "
        "a folder with a file per prompt and seed. With a bundle in place of a run, images are sampled with the bundle "
        "alone.",
    )
    sample.add_argument(
        "run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run; or path of an export bundle"
    )
    sample.add_argument("prompts", nargs="*", metavar="prompt", help="prompts (default: the prompts of the run)")
    sample.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        dest="file",
        help="read the prompts from a .txt file with one prompt per line, or from a .jsonl, .csv or .tsv file",
    )
    sample.add_argument("--width", type=float, nargs="+", metavar="W", help="widths (default: all widths of the run)")
    sample.add_argument("--steps", type=int, help="number of sampling steps")
    sample.add_argument("--sampler", choices=get_args(SamplerName), help="sampler")
    sample.add_argument("--guidance", type=float, help="scale of classifier-free guidance; 1 disables it")
    seeds = sample.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, help="seed of the initial noise")
    seeds.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="several seeds; each produces one image per prompt"
    )
    sample.add_argument(
        "--noise",
        choices=get_args(NoiseName),
        help="generator of the initial noise; with portable, images start from the same noise as in apps",
    )
    sample.add_argument("--size", metavar="HxW", help="image height and width in pixels, for example 128x128")
    sample.add_argument(
        "--lora-scale",
        type=float,
        default=1.0,
        metavar="S",
        help="strength of the LoRA of a fine-tuned run or of its bundle; 0 samples without it (default: 1)",
    )
    sample.add_argument("--decoder", metavar="RUN", help="run whose tiny decoder decodes the images")
    sample.add_argument(
        "--out",
        type=Path,
        help="PNG file for a grid, or folder for separate files (default: sample.png, or samples with --prompts or "
        "--seeds)",
    )
    sample.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    sample.set_defaults(call=call_sample)


def call_sample(args: argparse.Namespace) -> None:
    """Check the options, then sample images and write them."""
    out = _output(args)
    if args.size:
        try:
            args.size = parse_size(args.size, "--size ")
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps {args.steps}: must be at least 1")
    from pocketdit.running.sampling_options import require_lora_scale, select_widths

    require_lora_scale(args.lora_scale, "--lora-scale")
    if is_bundle(Path(args.run)):
        from pocketdit.commands.sample.bundle import sample_bundle

        _require_writable(out, is_grid=True)
        sample_bundle(args, out)
        return
    from pocketdit.artifacts.notice import read_notice
    from pocketdit.artifacts.run_folder import find, load_experiment

    folder = find(args.runs, args.run)
    decoder = find(args.runs, args.decoder) if args.decoder else None
    prompts = _read_prompts(args.file) if args.file else None
    experiment = _with_options(load_experiment(folder), args, prompts)
    sampling = experiment.sampling
    if prompts is None:
        prompts = _numbered(sampling.prompts)
    widths = select_widths(args.width, experiment, folder.name)
    _require_writable(out)
    is_grid = out.suffix.lower() == PNG
    _require_sizes(experiment, prompts, is_grid, "--size" if args.size else f"sampling.size of {folder.name}")
    from pocketdit.commands.sample.grid import write_grid
    from pocketdit.commands.sample.images import write_images
    from pocketdit.encoders.conditioning import is_empty
    from pocketdit.running.model import load_model

    if any(map(is_empty, sampling.prompts)):
        print("note: images for an empty prompt are sampled without text")
    if notice := read_notice(folder):
        print(f"note: {notice.rstrip()}")
    model = load_model(folder, experiment, args.lora_scale)
    if decoder is not None:
        model = model.with_decoder(decoder)
    if is_grid:
        write_grid(model, sampling, widths, out, notice)
    else:
        write_images(model, prompts, sampling, widths, args.seeds or [sampling.seed], out, notice)


def _with_options(experiment: "Experiment", args: argparse.Namespace, prompts: "list[Prompt] | None") -> "Experiment":
    """Return the experiment with the sampling settings that the command line overrides.

    Raises:
        ConfigError: A setting is invalid.
    """
    from pocketdit.running.sampling_options import with_sampling

    options = {name: getattr(args, name) for name in SAMPLING_OPTIONS if getattr(args, name) not in (None, [])}
    if prompts is not None:
        options["prompts"] = [prompt.text for prompt in prompts]
    if "prompts" in options:
        options["prompts"] = tuple(options["prompts"])
    return with_sampling(experiment, **options)


def _numbered(texts: Sequence[str]) -> "list[Prompt]":
    from evaluation.contract import Prompt

    return [Prompt(f"{i:05d}", text) for i, text in enumerate(texts)]


def _require_sizes(experiment: "Experiment", prompts: "list[Prompt]", is_grid: bool, option: str) -> None:
    """Check that all images can be sampled. The images of a grid share one size; separate files can differ in size.

    Raises:
        ConfigError: The size of a prompt's image is not a number of pixels, the network does not accept the size, or
            there is not enough memory.
    """
    from evaluation.subjects.sampling import group_by_size
    from pocketdit.running.model import sampling_device
    from pocketdit.running.sampling_memory import require_sampling_memory
    from pocketdit.running.sampling_options import with_sampling
    from pocketdit.sampling import BATCH

    size, device = experiment.sampling.size, sampling_device()
    if is_grid:
        require_sampling_memory(experiment, size, len(prompts), option, device)
        return
    for other, group in group_by_size(prompts, size):
        option = option if other == size else f"prompt {group[0].id}"
        changed = with_sampling(experiment, size=other)
        require_sampling_memory(changed, other, min(len(group), BATCH), option, device)


def _output(args: argparse.Namespace) -> Path:
    """Return the path of the PNG file for a grid, or of the folder for separate files.

    Raises:
        ConfigError: The options contradict each other.
    """
    if args.file and args.prompts:
        raise ConfigError(f"--prompts {args.file}: pass either a file or prompts on the command line, not both")
    default = "samples" if args.file or args.seeds else "sample.png"
    out: Path = args.out or Path(default)
    if args.seeds and out.suffix.lower() == PNG:
        raise ConfigError(f"--seeds: a grid has a single seed; pass a folder as --out instead of {out}")
    from pocketdit.running.sampling_options import require_seeds

    require_seeds(args.seeds or (), "--seeds")
    return out


def _read_prompts(path: Path) -> "list[Prompt]":
    """Read a prompt file. The ID of each prompt becomes the name of a folder.

    Raises:
        ConfigError: The file cannot be read, or a prompt is malformed.
        UserError: A prompt's ID occurs twice or cannot be a file name.
    """
    from evaluation.prompts.file import PromptFile
    from evaluation.subjects.image_cache import check_ids

    prompts = PromptFile(path).load()
    check_ids(prompts)
    return list(prompts.prompts)


def _require_writable(out: Path, is_grid: bool = False) -> None:
    """Check before sampling that the PNG file for a grid, or the folder for separate files, can be written.

    Raises:
        ConfigError: The file has the suffix of another format, or its folder is not writable.
    """
    suffix = out.suffix.lower()
    if is_grid and suffix != PNG:
        raise ConfigError(f"--out {out}: must end with .png, because the images of a bundle are written as one grid")
    if suffix in OTHER_SUFFIXES:
        raise ConfigError(f"--out {out}: must end with .png, or be a folder")
    folder = out.parent if suffix == PNG else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot create the folder {folder} ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--out {out}: the folder {folder} is not writable")
