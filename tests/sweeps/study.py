"""A small study over the shipped experiment whose trials sleep."""

from pathlib import Path
from typing import Any

import yaml

from pocketdit.config.load import Loaded, load
from sweeps.settings import Sweep
from tests.conftest import ROOT


def sleeping(folder: Path, **changes: Any) -> dict[str, Any]:
    """As it would stand in YAML."""
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


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(sleeping(folder, **changes), sort_keys=False))
    return path


def loaded(folder: Path, *overrides: str, **changes: Any) -> Loaded[Sweep]:
    return load(written(folder, **changes), list(overrides), Sweep)
