"""A finished run of this project as a teacher, at full width and with the run's own text encoders."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from pocketdit.artifacts.network import load_network, require_weights
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.artifacts.weights import load_weights
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import activate_adapter, active_adapter, add_adapters, load_adapter
from pocketdit.backbones.per_width import lora_pairs
from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.component import Component, build
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.config.sharding import Sharding
from pocketdit.encoders.conditioning import encode_text, unconditional
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.teachers.contract import FEW_STEP_ADAPTER, TeacherOutput
from pocketdit.teachers.outline import TeacherOutline
from pocketdit.training.cost import bytes_of, network_inputs
from pocketdit.training.sharding import shard


class TextCondition(NamedTuple):
    """Captions encoded by the teacher's text encoders."""

    text: list[TextTokens]
    """One ``TextTokens`` per text encoder."""
    unconditional: list[TextTokens]
    """The same tokens with all of them hidden."""


class RunTeacher:
    """A teacher that uses the network of a finished run.

    Args:
        run: The teacher's run: a path, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        few_step: A ``StepDistill`` run that started from ``run``. Its LoRA becomes the few-step LoRA.
        runs: Folder of all runs.
        load_text: Whether to load the text encoders. A run sets it to false if its data set stores the embeddings.

    Raises:
        ConfigError: ``run`` is itself a few-step model, or ``few_step`` did not start from ``run``.
        RunError: A run does not exist or has no weights yet, or the LoRA does not fit.
    """

    few_step_arguments: ClassVar[tuple[str, ...]] = ("few_step",)

    def __init__(
        self, run: str, few_step: str | None = None, runs: Path = Path("runs"), load_text: bool = True
    ) -> None:
        folder = find(Path(runs), run)
        network = load_network(folder)
        if not isinstance(network, ElasticDiT):
            raise ConfigError(
                f"run: {folder.name} is a few-step model; set few_step to this run, and run to the run that it started "
                "from"
            )
        self.network = network
        self.experiment: Experiment = load_experiment(folder)
        components = self.experiment.text_encoders if load_text else ()
        self.text_encoders = [build(component) for component in components]
        self._has_text = load_text
        self.feature_width = network.spec.width
        self.patch_size = network.spec.patch_size
        self.channels = network.spec.latent_channels
        self.has_few_step = few_step is not None
        if few_step is not None:
            self._add_few_step(find(Path(runs), few_step), folder, Path(runs))

    def _add_few_step(self, lora: RunFolder, base: RunFolder, runs: Path) -> None:
        parent = load_experiment(lora).parents.get("start")
        if parent is None or find(runs, parent).path != base.path:
            raise ConfigError(f"few_step: {lora.name} started from {parent}, not from the teacher {base.name}")
        require_weights(lora)
        pairs = list(lora_pairs(load_weights(lora.weights), self.network.spec.width))
        if not pairs:
            raise RunError(f"few_step: {lora.name} has no LoRA for the teacher's full width")
        rank = pairs[0][1].shape[0]
        # The stored B includes the factor alpha / rank.
        add_adapters(self.network, [FEW_STEP_ADAPTER], rank, alpha=rank)
        weights = {f"{layer}.A": a for layer, a, _ in pairs} | {f"{layer}.B": b for layer, _, b in pairs}
        try:
            load_adapter(self.network, FEW_STEP_ADAPTER, weights)
        except ValueError as error:
            raise RunError(f"few_step: {lora.name}: {error}") from error
        activate_adapter(self.network, None)
        self.network.requires_grad_(False)

    @classmethod
    def text_components(cls, run: str, runs: Path = Path("runs"), **_: object) -> Sequence[Component]:
        """Return the configurations of the text encoders, whose embeddings a data set can store."""
        experiment: Experiment = load_experiment(find(Path(runs), run))
        return experiment.text_encoders

    @classmethod
    def outline(
        cls,
        device: torch.device,
        tokens: int,
        run: str,
        few_step: str | None = None,
        runs: Path = Path("runs"),
        **_: object,
    ) -> TeacherOutline | None:
        """Return the teacher's network without its weights, or None if the teacher's run cannot be found."""
        try:
            experiment: Experiment = load_experiment(find(Path(runs), run))
        except UserError:
            return None
        spec, lengths = experiment.dit, text_lengths(experiment.text_encoders)
        with device:
            network = ElasticDiT(spec).requires_grad_(False)

        def predict(batch: int, height: int, width: int) -> object:
            inputs = network_inputs(spec, batch, (height, width), str(device), lengths)
            return network.forward_with_features(*inputs, width=FULL_WIDTH)

        return TeacherOutline(Outline(network, predict), (), spec.width, bytes_of(network))

    @classmethod
    def check_latents(cls, autoencoder: Component, run: str, runs: Path = Path("runs"), **_: object) -> None:
        """Raise ``ConfigError`` unless the autoencoder is configured like the one the teacher was trained with."""
        experiment: Experiment = load_experiment(find(Path(runs), run))
        own = experiment.autoencoder
        if autoencoder != own:
            raise ConfigError(
                "autoencoder does not match the teacher, which was trained on the latents of "
                f"{own.class_path} {own.init_args}"
            )

    @contextmanager
    def few_step(self) -> Iterator[None]:
        """Activate the few-step LoRA inside the context. Contexts cannot be nested."""
        if not self.has_few_step:
            raise RunError("the teacher has no few-step LoRA; set few_step in its init_args")
        with active_adapter(self.network, FEW_STEP_ADAPTER, restore=None):
            yield

    @torch.no_grad()
    def condition(self, captions: Sequence[str]) -> TextCondition:
        """Encode captions with the teacher's own text encoders.

        Raises:
            RunError: The text encoders have not been loaded.
        """
        if not self._has_text:
            raise RunError("the teacher's text encoders are not loaded; set load_text to true in its init_args")
        text = encode_text(self.text_encoders, captions)
        return TextCondition(text, unconditional(text))

    def condition_on(self, text: Sequence[TextTokens], blank: Sequence[TextTokens]) -> TextCondition:
        """Return the condition for stored tokens. The empty caption has no visible tokens."""
        return TextCondition(list(text), unconditional(text))

    @torch.no_grad()
    def predict(self, x_t: Tensor, time: Tensor, condition: TextCondition, guidance: float = 1.0) -> TeacherOutput:
        """Predict the velocity and the features at full width. See ``Teacher.predict``."""
        velocity, features = self.network.forward_with_features(x_t, time, condition.text, width=FULL_WIDTH)
        velocity = velocity.float()
        if guidance != 1.0:
            negative = self.network(x_t, time, condition.unconditional, width=FULL_WIDTH).float()
            velocity = negative + guidance * (velocity - negative)
        return TeacherOutput(velocity, features.float())

    def to(self, device: torch.device) -> Self:
        """Move the network and the text encoders to a device in place."""
        self.network.to(device)
        for encoder in self.text_encoders:
            encoder.to(device)
        return self

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the network across ranks unless it is already sharded. The text encoders are not sharded."""
        if not isinstance(next(self.network.parameters()), DTensor):
            shard(self.network, mesh, Sharding())
