"""Implements ``lightning data encode``.

Modules that are slow to import are imported inside functions.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.bounds import MAX_SIDE
from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from pocketdit.config.component import Component
    from pocketdit.config.experiment import AnyExperiment


def add_encode(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand ``encode`` to ``lightning data``."""
    encode = verbs.add_parser(
        "encode",
        help="store the latents and text embeddings of an image data set",
        description="Encode an image data set once, instead of in every training step. If the command is killed, run "
        "it again to continue. To use several processes, start it with torchrun.",
    )
    encode.add_argument("file", type=Path, help="YAML file of the experiment whose encoders are used")
    encode.add_argument("source", type=Path, help="folder of the image data set")
    encode.add_argument("out", type=Path, help="folder of the encoded data set")
    encode.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the experiment")
    encode.add_argument(
        "--base-size",
        metavar="SIZE[,SIZE]",
        help="base size of the buckets to which images are cropped (default: as in the experiment). With several "
        "sizes, such as 256,512, one data set per size is written, to OUT/256 and OUT/512",
    )
    encode.add_argument(
        "--buckets", choices=("aspect", "square"), help="shape of the buckets (default: as in the experiment)"
    )
    encode.add_argument("--latents-only", action="store_true", help="do not store text embeddings")
    encode.add_argument(
        "--teacher", action="store_true", help="also store the text embeddings of the experiment's teacher"
    )
    encode.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="data type of the stored latents and embeddings (default: %(default)s)",
    )
    encode.add_argument(
        "--batch-size", type=int, default=32, help="images or captions per batch (default: %(default)s)"
    )
    encode.add_argument(
        "--workers", type=int, default=4, help="threads per process that decode images (default: %(default)s)"
    )
    encode.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run on the Ray cluster at ADDRESS (default: a new one on this machine), with one worker per GPU or, if "
        "the cluster has no GPUs, one per CPU",
    )
    encode.add_argument("--overwrite", action="store_true", help="replace an existing data set")
    encode.set_defaults(call=call_encode)


def call_encode(args: argparse.Namespace) -> None:
    """Run ``lightning data encode``."""
    check_numbers(args)
    sizes = parse_sizes(args.base_size) if args.base_size else ()
    from pocketdit.config.experiment import AutoencoderExperiment, kind_of
    from pocketdit.config.load import load
    from pocketdit.running.requirements import quiet_warnings

    quiet_warnings()
    experiment = load(args.file, args.overrides, kind_of(args.file)).config
    if isinstance(experiment, AutoencoderExperiment):
        raise ConfigError(f"{args.file}: this experiment trains an autoencoder; use one that trains on latents")
    from datamodules.encoding.job import EncodeJob
    from datamodules.encoding.launch import launch
    from pocketdit.config.shell import command_line, operand, setting

    settings = experiment.data.init_args
    job = EncodeJob(
        source=args.source,
        out=args.out,
        autoencoder=experiment.autoencoder,
        text_encoders={
            "text": () if args.latents_only else getattr(experiment, "text_encoders", ()),
            "teacher": teacher_text_encoders(experiment) if args.teacher else (),
        },
        base_sizes=sizes or (int(settings.get("base_size", 128)),),
        buckets=args.buckets or settings.get("buckets", "aspect"),
        dtype=args.dtype,
        batch_size=args.batch_size,
        workers=args.workers,
    )
    for report in launch(job, overwrite=args.overwrite, ray=args.ray):
        print(report)
        changed = [setting("data.init_args.path", report.path)]
        if report.base_size != settings.get("base_size", 128):
            changed.append(f"data.init_args.base_size={report.base_size}")
        print(f"train on it with: {command_line('run', operand(args.file), *changed)}")


def check_numbers(args: argparse.Namespace) -> None:
    """Check the options for the batch size and the number of workers.

    Raises:
        ConfigError: A number is out of range.
    """
    for option in ("batch_size", "workers"):
        if getattr(args, option) < 1:
            raise ConfigError(f"--{option.replace('_', '-')} {getattr(args, option)}: must be at least 1")


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the base sizes that ``--base-size`` lists, without duplicates.

    Raises:
        ConfigError: An entry is not a number or not a valid base size.
    """
    words = text.split(",")
    if not all(word.isdecimal() and 32 <= int(word) <= MAX_SIDE and int(word) % 32 == 0 for word in words):
        raise ConfigError(f"--base-size {text}: each size must be a multiple of 32 up to {MAX_SIDE}")
    return tuple(dict.fromkeys(map(int, words)))


def teacher_text_encoders(experiment: "AnyExperiment") -> "tuple[Component, ...]":
    """Return the configurations of the text encoders of an experiment's teacher.

    Raises:
        ConfigError: The experiment has no teacher, or the teacher's text embeddings cannot be stored.
    """
    from pocketdit.config.importing import import_class
    from pocketdit.teachers.contract import StorableText

    teacher = experiment.stage.init_args.get("teacher")
    if teacher is None:
        raise ConfigError("--teacher: the stage of the experiment has no teacher")
    cls = import_class(teacher.class_path)
    if not issubclass(cls, StorableText):
        raise ConfigError(f"--teacher: the text embeddings of {teacher.class_path} cannot be stored")
    return tuple(cls.text_components(**teacher.init_args))
