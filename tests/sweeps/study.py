"""Provides a small study of a shipped experiment, with trials that sleep instead of training."""

from pathlib import Path
from typing import Any

import yaml

from pocketdit.config.load import Loaded, load
from sweeps.settings import Sweep
from sweeps.storage.store import Store
from tests.conftest import ROOT


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the study's settings as plain values, with top-level keys replaced by ``changes``."""
    return {
        "sweep": "s",
        "base": str(ROOT / "experiments" / "elastic_pretrain.yaml"),
        "out": str(folder / "runs"),
        "set": {"training.validate_every": 10, "training.decay": "constant",
                "tracking.uri": f"sqlite:///{folder / 'm.db'}"},
        "space": {"optimizer.init_args.lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "objectives": {"loss": {"kind": "logged", "metric": "validation/loss/width_1"}},
        "budget": {"trials": 6, "steps": [10]},
        "heartbeat": {"every": 1, "grace": 4, "retries": 20},
        "train": {"class_path": "tests.sweeps.sleeping.Sleep"},
        **changes,
    }  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    """Write the study's YAML file and return its path."""
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(settings(folder, **changes), sort_keys=False))
    return path


def loaded(folder: Path, *overrides: str, **changes: Any) -> Loaded[Sweep]:
    """Write and load the study."""
    return load(write(folder, **changes), list(overrides), Sweep)


def no_plots(sweep: Sweep, store: Store) -> list[Path]:
    """Disable the plots that are written at the end of a study."""
    return []
