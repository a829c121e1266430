"""One YAML in ``experiments/`` is one of these: a complete run."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from elastic_dit.backbones.spec import DiTSpec
from elastic_dit.config.component import Component, Given


@dataclass(frozen=True)
class Training:
    """What every stage shares.

    ``max_steps``: optimizer steps. ``precision``: Lightning's names; "auto" is bf16 on GPUs and on processors that
    multiply it faster, else fp32.
    ``accumulate``: batches a step. ``*_every``: in optimizer steps; 0 is never.
    """

    max_steps: int
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    accumulate: int = 1
    clip_norm: float = 1.0
    warmup_steps: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    final_rate: float = 0.0
    ema_decay: float = 0.999
    gradient_checkpointing: bool = False
    compile: bool = False
    log_every: int = 10
    validate_every: int = 1000
    checkpoint_every: int = 500
    sample_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("max_steps", "accumulate", "nodes", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("warmup_steps", "validate_every", "sample_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.clip_norm <= 0:
            raise ValueError("clip_norm must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError("ema_decay must be in [0, 1)")


@dataclass(frozen=True)
class Sampling:
    """How pictures are made from the trained network, during the run and by ``lightning sample``.

    ``size``: height and width in pixels. ``guidance``: 1 is the text alone.
    """

    prompts: tuple[str, ...]
    steps: int = 28
    sampler: Literal["euler", "heun", "multistep"] = "multistep"
    guidance: float = 4.0
    time_shift: float = 1.0
    size: tuple[int, int] = (256, 256)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        if not self.prompts:
            raise ValueError("prompts must not be empty")
        if not 0 <= self.guidance < float("inf") or not 0 < self.time_shift < float("inf"):
            raise ValueError("guidance must be a number from 0 on and time_shift a positive one")


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps what the run folder journals. ``uri``: sqlite file or server."""

    uri: str = "sqlite:///runs/mlflow.db"
    project: str = "elastic-dit"


@dataclass(frozen=True)
class Experiment:
    """A run: data, frozen encoders, backbone, stage, optimizer, and how long and where.

    ``parents``: runs that this one builds on, by role; ``start`` gives the backbone its first weights, and any role
    can be used elsewhere as ``${parents.ROLE}``. EXPERIMENT alone is its latest run when this one begins.
    """

    experiment: str
    data: Component
    autoencoder: Component
    text_encoders: tuple[Component, ...]
    backbone: DiTSpec
    stage: Annotated[Component, Given("backbone", "encoders", "optimizer", "training", "seed")]
    optimizer: Annotated[Component, Given("params")]
    training: Training
    sampling: Sampling
    seed: int = 0
    parents: dict[str, str] = field(default_factory=dict)
    runs: str = "runs"
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if not self.experiment or "/" in self.experiment or self.experiment.startswith("."):
            raise ValueError("experiment must be a plain name: it is a folder under runs/")
        if len(self.text_encoders) != len(self.backbone.text_inputs):
            raise ValueError(
                f"backbone.text_inputs has {len(self.backbone.text_inputs)} widths "
                f"for {len(self.text_encoders)} text_encoders"
            )
        if self.training.strategy == "fsdp2" and self.optimizer.class_path.endswith("MuonAdamW"):
            raise ValueError("optimizer: MuonAdamW needs whole matrices, fsdp2 shards them: use torch.optim.AdamW")
        if self.stage.class_path.endswith("StepDistill") and self.optimizer.class_path.endswith("MuonAdamW"):
            raise ValueError("optimizer: MuonAdamW is not for LoRA: use torch.optim.AdamW with betas [0.0, 0.99]")
        multiple = 8 * self.backbone.multiple
        if any(side < multiple or side % multiple for side in self.sampling.size):
            raise ValueError(f"sampling.size: sides must be multiples of {multiple} pixels")
