"""The schemas of experiments. Each YAML file in ``experiments/`` describes one complete run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from typing_extensions import override

from pocketdit.autoencoders.spec import AutoencoderSpec
from pocketdit.backbones.spec import BackboneSpec, DiTSpec
from pocketdit.bounds import Between, Count, CountOrZero, Fraction, Guidance, Side, Steps, TimeShift, check_bounds
from pocketdit.config import document
from pocketdit.config.component import Component, Role, Supplied
from pocketdit.config.importing import import_class
from pocketdit.config.optimizers import check_optimizer
from pocketdit.config.sharding import Sharding
from pocketdit.config.shell import command_line, operand, setting
from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.diffusion.sampler_names import NoiseName, SamplerName
from pocketdit.errors import ConfigError
from pocketdit.names import is_plain_name, require_unicode

# Role of the parent run that provides the initial weights.
START = "start"
# Roles describe the contracts of components without importing the modules of these contracts, which import torch.
DATA_MODULE = Role("a LightningDataModule", ("prepare_data", "train_dataloader", "val_dataloader", "on_exception"))
AUTOENCODER = Role("an autoencoder (pocketdit/encoders/contract.py)", ("factor", "encode", "decode"))
TEXT_ENCODER = Role("a text encoder (pocketdit/encoders/contract.py)", ("encode",), ("max_tokens",), ("decode",))
OPTIMIZER = Role("an optimizer", ("step", "zero_grad", "add_param_group"))
STAGE = Role("a stage (pocketdit/stages/contract.py)",
             ("separate_widths", "check", "check_data", "uses_few_step", "logged_metrics", "cost", "preview", "weights",
              "training_step"))  # fmt: skip


@dataclass(frozen=True)
class Training:
    """Settings that all stages share.

    Attributes:
        max_steps: Number of optimizer steps.
        precision: Lightning's name for the precision. "auto" selects bf16 on GPUs and on CPUs that are faster in bf16,
            and fp32 otherwise.
        accelerator: Lightning's name for the accelerator.
        devices: Number of devices per node. "auto" uses all GPUs, or one process on a CPU.
        nodes: Number of machines.
        strategy: How weights and gradients are distributed. "auto" uses DDP if there are several devices.
        sharding: Settings of FSDP2 (``strategy: fsdp2``).
        accumulate: Number of batches per optimizer step.
        clip_norm: Gradient norm above which gradients are scaled down.
        warmup_steps: Number of steps over which the learning rate increases linearly.
        decay: Schedule by which the learning rate decreases after the warm-up.
        final_rate: Learning rate at the last step, as a fraction of the peak.
        ema_decay: Decay of the EMA weights.
        gradient_checkpointing: Whether to recompute blocks in the backward pass to save memory.
        compile: Whether to compile blocks with ``torch.compile``.
        attention_forms: "default" always computes attention in the same way, so that runs with the same seed have the
            same result. "measured" times the available implementations at the first use of every shape, and keeps the
            fastest one.
        log_every: Number of steps between logged training metrics.
        validate_every: Number of steps between validations; 0 disables validation.
        checkpoint_every: Number of steps between checkpoints.
        sample_every: Number of steps between previews; 0 only writes the last one.
    """

    max_steps: Count
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Annotated[int, Between(1, 1024)] | Literal["auto"] = "auto"
    nodes: Annotated[int, Between(1, 100_000)] = 1
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    sharding: Sharding = field(default_factory=Sharding)
    accumulate: Annotated[int, Between(1, 1_000_000)] = 1
    clip_norm: Annotated[float, Between(1e-9, 1e9)] = 1.0
    warmup_steps: CountOrZero = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    final_rate: Fraction = 0.0
    ema_decay: Annotated[float, Between(0, 1 - 1e-9)] = 0.999
    gradient_checkpointing: bool = False
    compile: bool = False
    attention_forms: Literal["default", "measured"] = "default"
    log_every: Count = 10
    validate_every: CountOrZero = 1000
    checkpoint_every: Count = 500
    sample_every: CountOrZero = 1000

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.strategy != "fsdp2" and self.sharding != Sharding():
            raise ValueError(f"sharding requires strategy=fsdp2, not {self.strategy}")
        if self.sharding.weights == "bfloat16" and self.precision == "32-true":
            raise ValueError("sharding.weights=bfloat16 requires precision=bf16-mixed, not 32-true")


@dataclass(frozen=True)
class Sampling:
    """Settings for sampling images from the trained network, in previews and by ``lightning sample``.

    Attributes:
        prompts: Prompts of previews.
        steps: Number of sampling steps.
        sampler: Name of the sampler.
        guidance: Scale of classifier-free guidance; 1 disables it.
        time_shift: Shift of the sampling times toward noise.
        size: Image height and width in pixels.
        seed: Seed of the initial noise.
        noise: Generator of the initial noise. With ``portable``, the noise depends only on the seed, and is the same as
            in apps that use an export bundle.
    """

    prompts: tuple[str, ...]
    steps: Steps = 28
    sampler: SamplerName = "dpmpp_2m"
    guidance: Guidance = 4.0
    time_shift: TimeShift = 1.0
    size: tuple[Side, Side] = (256, 256)
    seed: int = 0
    noise: NoiseName = "torch"

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.prompts:
            raise ValueError("prompts must not be empty")
        for text in self.prompts:
            try:
                require_unicode(text)
            except ValueError as error:
                raise ValueError(f"prompts: {error}") from None


@dataclass(frozen=True)
class TensorBoard:
    """Also writes metrics and previews for TensorBoard, to the folder ``tensorboard`` in the run folder."""

    kind: Literal["tensorboard"]


@dataclass(frozen=True)
class WeightsAndBiases:
    """Also sends metrics, settings and previews to Weights & Biases, with the account of ``wandb login``.

    Attributes:
        project: Name of the project.
        entity: User or team that owns the project; defaults to the default entity of the account.
        mode: ``offline`` writes to the folder ``wandb`` in the run folder, which ``wandb sync`` can upload.
    """

    kind: Literal["wandb"]
    project: str = "pocketdit"
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"


OtherTracker = TensorBoard | WeightsAndBiases


@dataclass(frozen=True)
class Tracking:
    """Settings for tracking the run in MLflow and other programs.

    Attributes:
        uri: Tracking URI of MLflow, which refers to an SQLite file or a server.
        project: Name of the MLflow experiment.
        also: Other programs that receive the metrics and previews.
    """

    uri: str = "sqlite:///runs/mlflow.db"
    project: str = "pocketdit"
    also: tuple[OtherTracker, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BaseExperiment:
    """The settings of all runs: data, an optimizer, a stage, and training settings.

    Attributes:
        experiment: Name of the experiment and of its folder in ``runs``.
        seed: Seed of all random draws.
        parents: Runs that this run builds on, by role. ``start`` provides the initial weights. Other values can refer
            to any role as ``${parents.ROLE}``. The name of an experiment refers to its latest run at the time when this
            run starts.
        data: Data module.
        optimizer: Optimizer. The program supplies its parameters.
        stage: Training stage.
        training: Settings that all stages share.
        runs: Folder of all runs.
        tracking: Settings for tracking the run in MLflow.
    """

    experiment: str
    seed: int = 0
    parents: dict[str, str] = field(default_factory=dict)
    data: Annotated[Component, DATA_MODULE]
    optimizer: Annotated[Component, Supplied("params"), OPTIMIZER]
    stage: Annotated[Component, Supplied("inputs"), STAGE]
    training: Training
    runs: str = "runs"
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if not is_plain_name(self.experiment):
            raise ValueError(
                "experiment must be a plain name without slashes or a leading dot, because it is a folder name in runs/"
            )
        rate, batch = self.optimizer.init_args.get("lr"), self.data.init_args.get("batch_size")
        if isinstance(rate, int | float) and not rate > 0:
            raise ValueError(f"optimizer.init_args.lr: must be positive, not {rate}")
        if isinstance(batch, int) and batch < 1:
            raise ValueError(f"data.init_args.batch_size: must be at least 1, not {batch}")

    @property
    def start(self) -> str | None:
        """The run that provides the initial weights, if any."""
        return self.parents.get(START)

    def check(self) -> None:
        """Import the configured classes and check the settings that depend on them.

        Raises:
            ValueError: The classes do not support the settings. The message starts with the key.
        """
        import_class(self.stage.class_path).check(self)
        check_optimizer(self.optimizer.class_path, self.training.strategy, self.training.decay)
        optimizer = import_class(self.optimizer.class_path)
        if self.training.strategy == "fsdp2" and not getattr(optimizer, "supports_sharding", True):
            name = optimizer.__name__
            raise ValueError(f"optimizer: {name} does not support sharded weights (fsdp2); use torch.optim.AdamW")


@dataclass(frozen=True, kw_only=True)
class Experiment(BaseExperiment):
    """A run that trains a backbone.

    Attributes:
        autoencoder: Frozen autoencoder.
        text_encoders: Frozen text encoders.
        backbone: Description of the network.
        sampling: Settings for sampling images.
    """

    autoencoder: Annotated[Component, AUTOENCODER]
    text_encoders: tuple[Annotated[Component, TEXT_ENCODER], ...]
    backbone: BackboneSpec
    sampling: Sampling

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text_encoders) != len(self.backbone.text_inputs):
            raise ValueError(
                f"backbone.text_inputs has {len(self.backbone.text_inputs)} widths, "
                f"but there are {len(self.text_encoders)} text_encoders"
            )

    @override
    def check(self) -> None:
        """Also check that the network and the autoencoder support the size of sampled images."""
        super().check()
        multiple = import_class(self.autoencoder.class_path).factor * self.backbone.latent_multiple
        if any(side < multiple or side % multiple for side in self.sampling.size):
            raise ValueError(f"sampling.size: both sides must be multiples of {multiple} pixels")

    @property
    def dit(self) -> DiTSpec:
        """The description of the network, which must be a diffusion transformer.

        Raises:
            ConfigError: The network is a U-Net.
        """
        if not isinstance(self.backbone, DiTSpec):
            raise ConfigError("backbone.kind: a U-Net is not supported here; describe a diffusion transformer instead")
        return self.backbone

    def next_command(self, run: str) -> str:
        """Return the command that samples images from a run of this experiment."""
        return command_line("sample", operand(run), prompts=self.sampling.prompts[:1])


@dataclass(frozen=True, kw_only=True)
class DecoderExperiment(BaseExperiment):
    """A run that trains a decoder for the latents of the autoencoder, without text encoders or a backbone.

    Attributes:
        autoencoder: Frozen autoencoder.
        decoder: Description of the decoder.
    """

    autoencoder: Annotated[Component, AUTOENCODER]
    decoder: TinyDecoderSpec

    def next_command(self, run: str) -> str:
        """Return the command that samples images from another run and decodes them with a run of this experiment."""
        return command_line("sample", "RUN", "--decoder", operand(run), prompts=["a prompt"])


@dataclass(frozen=True, kw_only=True)
class AutoencoderExperiment(BaseExperiment):
    """A run that trains an autoencoder, without a frozen autoencoder, text encoders or a backbone.

    Attributes:
        architecture: Description of the autoencoder.
    """

    architecture: AutoencoderSpec

    def next_command(self, run: str) -> str:
        """Return the command that trains a backbone on the latents of a run of this experiment."""
        weights = Path(self.runs) / run / "weights.safetensors"
        return command_line(
            "run", "experiments/emoji/emoji_pretrain.yaml", setting("autoencoder.init_args.weights", weights)
        )


EncodedExperiment = Experiment | DecoderExperiment
"""An experiment on the latents of a frozen autoencoder."""
AnyExperiment = EncodedExperiment | AutoencoderExperiment


def kind_of(path: Path) -> type[AnyExperiment]:
    """Return the class of the experiment that a YAML file describes.

    An experiment with a ``decoder`` section trains a decoder. One with an ``architecture`` section trains an
    autoencoder.

    Raises:
        ConfigError: The file does not contain a YAML mapping.
    """
    sections = document.read(path).values
    if "decoder" in sections:
        return DecoderExperiment
    return AutoencoderExperiment if "architecture" in sections else Experiment
