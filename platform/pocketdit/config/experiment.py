"""One YAML in ``experiments/`` is one of these: a complete run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pocketdit.backbones.spec import FULL, DiTSpec
from pocketdit.config import document
from pocketdit.config.component import Component, Given
from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.diffusion.sampler_names import SamplerName


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
    sampler: SamplerName = "dpmpp_2m"
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
    project: str = "pocketdit"


@dataclass(frozen=True, kw_only=True)
class BaseExperiment:
    """What runs of both kinds have: data, a frozen autoencoder, optimizer, and how long and where.

    ``parents``: runs that this one builds on, by role; ``start`` gives the network its first weights, and any role
    can be used elsewhere as ``${parents.ROLE}``. EXPERIMENT alone is its latest run when this one begins.
    """

    experiment: str
    seed: int = 0
    parents: dict[str, str] = field(default_factory=dict)
    data: Component
    autoencoder: Component
    optimizer: Annotated[Component, Given("params")]
    training: Training
    runs: str = "runs"
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if not self.experiment or "/" in self.experiment or self.experiment.startswith("."):
            raise ValueError("experiment must be a plain name: it is a folder under runs/")
        rate, batch = self.optimizer.init_args.get("lr"), self.data.init_args.get("batch_size")
        if isinstance(rate, int | float) and not rate > 0:
            raise ValueError(f"optimizer.init_args.lr: {rate} is no positive number")
        if isinstance(batch, int) and batch < 1:
            raise ValueError(f"data.init_args.batch_size: {batch} is less than 1")


@dataclass(frozen=True, kw_only=True)
class Experiment(BaseExperiment):
    """A run that trains a backbone: with text encoders, a stage, and how pictures are made on the way."""

    text_encoders: tuple[Component, ...]
    backbone: DiTSpec
    stage: Annotated[Component, Given("backbone", "encoders", "optimizer", "training", "seed")]
    sampling: Sampling

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text_encoders) != len(self.backbone.text_inputs):
            raise ValueError(
                f"backbone.text_inputs has {len(self.backbone.text_inputs)} widths "
                f"for {len(self.text_encoders)} text_encoders"
            )
        if self.training.strategy == "fsdp2" and self.optimizer.class_path.endswith("MuonAdamW"):
            raise ValueError("optimizer: MuonAdamW needs whole matrices, fsdp2 shards them: use torch.optim.AdamW")
        if self.stage.class_path.endswith("StepDistill") and self.optimizer.class_path.endswith("MuonAdamW"):
            raise ValueError("optimizer: MuonAdamW is not for LoRA: use torch.optim.AdamW with betas [0.0, 0.99]")
        if FULL not in self.backbone.widths and not self.stage.class_path.endswith("QuantizeFinetune"):
            raise ValueError("backbone.widths must hold 1.0: the sub-networks learn with the full one")
        multiple = 8 * self.backbone.multiple
        if any(side < multiple or side % multiple for side in self.sampling.size):
            raise ValueError(f"sampling.size: sides must be multiples of {multiple} pixels")


@dataclass(frozen=True, kw_only=True)
class DecoderExperiment(BaseExperiment):
    """A run that trains a decoder for the autoencoder's latents; it knows no text and no backbone."""

    decoder: TinyDecoderSpec
    stage: Annotated[Component, Given("decoder", "encoders", "optimizer", "training", "seed")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.strategy == "fsdp2":
            raise ValueError("training.strategy: a tiny decoder is too small to be sharded: use ddp")
        if self.training.gradient_checkpointing:
            raise ValueError("training.gradient_checkpointing: a tiny decoder has no use for it")
        if self.optimizer.class_path.endswith("MuonAdamW"):
            raise ValueError("optimizer: MuonAdamW is for a transformer's matrices: use torch.optim.AdamW")


def kind_of(path: Path) -> type[Experiment] | type[DecoderExperiment]:
    """Which kind of run a YAML is: one of a decoder has a section ``decoder``. ``ConfigError`` where it is no YAML."""
    return DecoderExperiment if "decoder" in document.read(path).values else Experiment
