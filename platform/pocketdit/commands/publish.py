"""Implements ``lightning publish``. Modules that are slow to import are imported inside functions."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from pocketdit.hub.card import Score
    from pocketdit.hub.folder import Publication


def add_publish(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``publish`` subcommand to the parser."""
    publish = subparsers.add_parser(
        "publish",
        help="write a run as a diffusers pipeline, to a folder or to the Hugging Face Hub",
        description="Write the network and the encoders of a run to a folder that diffusers can load as a pipeline, or "
        "upload such a folder to the Hugging Face Hub with the token in the environment variable HF_TOKEN.",
    )
    publish.add_argument("run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    target = publish.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="DIR", help="new folder to write")
    target.add_argument("--hub", metavar="USER/NAME", help="repository on the Hub to upload to")
    publish.add_argument("--width", type=float, metavar="W", help="include only this width (default: all widths)")
    publish.add_argument("--decoder", metavar="RUN", help="include the tiny decoder of this run")
    publish.add_argument(
        "--copy-encoders",
        action="store_true",
        help="include copies of encoders that are on the Hub instead of references; encoders in local folders are "
        "always copied",
    )
    publish.add_argument(
        "--license", metavar="ID", help="license of the weights, for the model card, such as apache-2.0"
    )
    publish.add_argument(
        "--data",
        metavar="TEXT",
        help="description of the training data, for the model card, such as 'photographs of cats'",
    )
    publish.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    publish.add_argument("--replace", action="store_true", help="replace the files of a repository that is not empty")
    publish.add_argument("--dry-run", action="store_true", help="list the files and their sizes, but publish nothing")
    publish.add_argument(
        "--evaluations",
        type=Path,
        default=Path("evaluations"),
        metavar="DIR",
        help="folder of evaluations whose scores the model card reports (default: %(default)s)",
    )
    publish.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    publish.set_defaults(call=call_publish)


def call_publish(args: argparse.Namespace) -> None:
    """Check the options, then write the run as a pipeline to a folder or to the Hub."""
    from pocketdit.hub.connection import require_name
    from pocketdit.hub.upload import require_token

    if args.hub:
        require_name(args.hub, "--hub ")
        if args.width is not None:
            raise ConfigError("--width: requires --to, because `lightning pull` restores a run with all of its widths")
        if not args.dry_run:
            require_token()
    for option in ("public", "replace"):
        if args.to and getattr(args, option):
            raise ConfigError(f"--{option}: requires --hub")
    from pocketdit import __version__
    from pocketdit.artifacts.network import require_weights
    from pocketdit.artifacts.run_folder import find, load_experiment
    from pocketdit.config.experiment import Experiment
    from pocketdit.config.load import load
    from pocketdit.hub.folder import Publication, require_new

    folder = find(args.runs, args.run)
    widths = sorted(load_experiment(folder).backbone.widths)
    if args.width is not None and args.width not in widths:
        known = ", ".join(f"{width:g}" for width in widths)
        raise ConfigError(f"--width {args.width:g}: {folder.name} only has the widths {known}")
    require_weights(folder)
    decoder = find(args.runs, args.decoder) if args.decoder else None
    if args.to and not args.dry_run:
        require_new(args.to)
    experiment = load(folder.config, [], Experiment)
    publication = Publication(folder, experiment, args.width, decoder, args.copy_encoders, __version__)
    if args.to and not args.dry_run:
        _write(publication, args, args.to)
        print(f'\nfolder   {args.to}\nnext     PocketDiTPipeline.from_pretrained("{args.to}")     (in Python)')
        return
    with tempfile.TemporaryDirectory(prefix="pocketdit-") as temporary:
        written = Path(temporary) / "published"
        _write(publication, args, written)
        if args.dry_run:
            print("nothing was published (--dry-run)")
            return
        from pocketdit.hub.upload import upload

        print(f"uploading to {args.hub}")
        address = upload(written, args.hub, args.public, args.replace, f"Publish {folder.name}")
        print(f"\ncommit   {address}\nnext     lightning pull {args.hub}     (on another machine)")


def _write(publication: "Publication", args: argparse.Namespace, target: Path) -> None:
    """Write the pipeline to a folder, and list the files."""
    from pocketdit.artifacts.notice import join_notices, read_notice
    from pocketdit.counts import counted
    from pocketdit.hub.card import CardFacts, model_card, parameter_counts
    from pocketdit.hub.folder import GRID, write_folder
    from pocketdit.names import one_line

    config = publication.experiment.config
    widths = config.backbone.widths if publication.width is None else (publication.width,)
    notices = [read_notice(run) for run in (publication.folder, publication.decoder) if run is not None]

    def card(folder: Path) -> str:
        facts = CardFacts(
            title=args.hub.partition("/")[2] if args.hub else target.name,
            location=args.hub or ".",
            license=args.license,
            data=args.data,
            parameters=parameter_counts(config, widths),
            scores=recorded_scores(publication, args.evaluations),
            notice=join_notices(*notices),
            has_grid=(folder / GRID).is_file(),
            can_pull=bool(args.hub),
        )
        return model_card(publication.folder, config, facts)

    write_folder(publication, target, card)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size:>13,}  {one_line(path.relative_to(target).as_posix())}")
    print(f"{sum(path.stat().st_size for path in files):>13,}  bytes in {counted(len(files), 'file')}")


def recorded_scores(publication: "Publication", evaluations: Path) -> "list[Score]":
    """Return the recorded scores of exactly the published weights. Newer scores replace older ones."""
    from evaluation.report.results import interval, load_all
    from pocketdit.files import sha256_of
    from pocketdit.hub.card import Score

    digest = sha256_of(publication.folder.weights)
    decoder = sha256_of(publication.decoder.weights) if publication.decoder is not None else None
    scores: dict[tuple[str, str, str, str, float], Score] = {}
    for report in load_all(evaluations):
        made: dict[str, Any] = next(iter(report.made.values()), {})
        same = made.get("weights_sha256") == digest and made.get("decoder_sha256") == decoder
        if not same or publication.width not in (None, made.get("width")):
            continue
        for result in report.results:
            protocol = result.protocol
            judge = protocol.get("judge") or {}
            named = f"{judge.get('name', '')} {judge.get('version', '')}".strip() if isinstance(judge, dict) else judge
            prompts = f"{protocol.get('prompts', '')}, {protocol.get('prompt_count', '')}".strip(", ")
            for name, score in result.scores.items():
                bounds = interval(result, name)
                value = f"{score.value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")
                meaning = str(protocol.get("overall", ""))
                entry = Score(result.metric, str(named), prompts, meaning, name, float(made["width"]), value)
                scores[(entry.metric, entry.judge, entry.prompts, entry.name, entry.width)] = entry
    return list(scores.values())
