"""Trains tiny runs for the fuzzers to damage, kill and repeat, and compares runs with each other."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.scenes.generator import SceneGenerator
from datamodules.shards.build_generated import build_generated
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.tracking.journal import read_metrics
from tests.fuzz.command import run_command
from tests.fuzz.file_events import on_file_events
from tests.fuzz.shipped import ROOT

REFERENCE = "reference"
STEPS = 12
_COMMON = (
    "data.init_args.batch_size=4", "data.init_args.validation_samples=4", "training.warmup_steps=2",
    "training.decay=constant", "training.log_every=1", "training.validate_every=5", "training.checkpoint_every=3",
    "training.sample_every=5",
)  # fmt: skip
_BACKBONE = ("backbone.width=64", "backbone.text_width=64", "sampling.steps=2", "sampling.prompts=[a red circle]")
_TEACHER = (
    *_COMMON, *_BACKBONE, "backbone.head_dim=16", "backbone.text_kv_heads=2", "backbone.levels.0.depth=2",
    "backbone.levels.0.attention.kv_heads=2",
)  # fmt: skip
_STUDENT = (
    *_COMMON, *_BACKBONE, "backbone.widths=[0.5, 1.0]", "backbone.levels.1.depth=1",
    "backbone.levels.1.long_skips=false",
)  # fmt: skip
_LORA = ("stage.init_args.rank=4", "stage.init_args.alpha=8", "training.validate_every=0")
# The stages and their overrides. Each stage follows the stages of its parents.
STAGES: dict[str, tuple[str, ...]] = {
    "teacher": _TEACHER,
    "teacher_few_step": (
        *_TEACHER, *_LORA, f"parents.start=teacher/{REFERENCE}", f"parents.teacher=teacher/{REFERENCE}",
    ),
    "elastic_pretrain": (*_STUDENT, "training.accumulate=2"),
    "knowledge_distill": (
        *_STUDENT, f"parents.teacher=teacher/{REFERENCE}", f"parents.start=elastic_pretrain/{REFERENCE}",
    ),
    "step_distill": (
        *_STUDENT, *_LORA, f"parents.start=elastic_pretrain/{REFERENCE}", f"parents.teacher=teacher/{REFERENCE}",
        f"parents.few_step=teacher_few_step/{REFERENCE}",
    ),
    "quantize_finetune": (
        *_STUDENT, "backbone.widths=[0.5]", f"parents.start=elastic_pretrain/{REFERENCE}", "stage.init_args.steps=0",
        "stage.init_args.low_bits=2", "stage.init_args.average_bits=3", "stage.init_args.weight_threshold=600",
        "stage.init_args.calibration_batches=2",
    ),
    "tiny_decoder": (
        *_COMMON, "decoder.channels=[16, 8]", "decoder.blocks=[1, 1]", "stage.init_args.adversarial_weight=0.05",
        "stage.init_args.discriminator_width=4",
    ),
}  # fmt: skip


def prepare(shared: Path, stages: Iterable[str] = STAGES) -> None:
    """Build a data set, train stages once, and create the tables of a tracking database.

    Each run's file operations are stored as a list in ``STAGE.json``.
    """
    build_generated(SceneGenerator(), shared / "scenes", train=64, validation=16, seed=0, overwrite=False)
    for stage in stages:
        operations: list[str] = []
        on_file_events(shared / "runs" / stage, operations.append)
        output = run_command(*arguments(stage, shared, shared, REFERENCE))
        assert output.status == 0, output.lines
        (shared / f"{stage}.json").write_text(json.dumps(operations))


def arguments(stage: str, shared: Path, folder: Path, name: str, steps: int = STEPS) -> list[str]:
    """Return the command that starts the run ``name`` of a stage in ``folder``, or resumes it."""
    locations = (f"data.init_args.path={shared / 'scenes'}", "data.init_args.workers=0", f"runs={folder / 'runs'}")
    return [
        "run", str(ROOT / "experiments" / f"{stage}.yaml"), *STAGES[stage], *locations, f"training.max_steps={steps}",
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", "--resume", "--name", name,
    ]  # fmt: skip


def link_references(shared: Path, folder: Path) -> None:
    """Link the runs and copy the tracking database that ``prepare`` created to a case's folder."""
    for reference in shared.glob(f"runs/*/{REFERENCE}"):
        link = folder / reference.relative_to(shared)
        link.parent.mkdir(parents=True)
        link.symlink_to(reference)
    shutil.copy(shared / "mlflow.db", folder / "mlflow.db")


def differences(expected: RunFolder, actual: RunFolder) -> list[str]:
    """Return the names of the results that are not bit-identical in both runs."""
    different = [
        path.name
        for path in (expected.weights, expected.palettes, expected.finished, *sorted(expected.samples.iterdir()))
        if path.exists() and not _same_bytes(path, actual.path / path.relative_to(expected.path))
    ]
    curves, others = _curves(expected.metrics), _curves(actual.metrics)
    different += [name for name in sorted({*curves, *others}) if curves.get(name) != others.get(name)]
    state, other = _state(expected.checkpoint), _state(actual.checkpoint)
    names = [name for name in sorted({*state, *other}) if not _equal(state.get(name), other.get(name))]
    return different + [f"{name} in last.ckpt" for name in names]


def untracked(folder: RunFolder, database: Path) -> list[str]:
    """Return the metrics of a finished run that only its folder or only its tracking database contains."""
    curves = _curves(folder.metrics)
    written = {(name, step, value) for name, curve in curves.items() for step, value in curve}
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT key, step, value FROM metrics JOIN runs USING (run_uuid) WHERE name = ?",
            (folder.name,),
        ).fetchall()
        (status,) = connection.execute("SELECT status FROM runs WHERE name = ?", (folder.name,)).fetchone()
    tracked = {row for row in rows if not row[0].startswith("speed/")}
    return sorted(map(str, written ^ tracked)) + ([] if status == "FINISHED" else [f"status {status}"])


def _curves(metrics: Path) -> dict[str, list[tuple[int, float]]]:
    return {name: sorted(curve) for name, curve in read_metrics(metrics).items() if not name.startswith("speed/")}


def _same_bytes(path: Path, other: Path) -> bool:
    readable = other.is_file() and os.access(other, os.R_OK, effective_ids=True)
    return readable and path.read_bytes() == other.read_bytes()


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    # "loops" counts the batches since the run was started or resumed.
    return {name: value for name, value in state.items() if name != "loops"}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)
