"""A finished run of this project as teacher, at full width, with the text encoders that it was trained with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.backbones.by_width import lora_pairs
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import activate, add_adapters, load_adapter, using
from pocketdit.backbones.spec import FULL
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Experiment
from pocketdit.encoders.conditioning import encode_text, unconditional
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError, RunError
from pocketdit.teachers.contract import TeacherOutput
from pocketdit.training.sharding import shard

FEW_STEP = "few_step"


class Condition(NamedTuple):
    """Captions as the teacher's own text encoders see them, and the same without any token."""

    text: list[TextTokens]
    without: list[TextTokens]


class RunTeacher:
    """``run``: path, EXPERIMENT/RUN, or EXPERIMENT for its latest. ``few_step``: a run of stage ``StepDistill`` that
    began with ``run``; its LoRA makes the few-step teacher out of the same weights. ``runs``: folder of all runs.

    Raises ``RunError`` where a run is missing, ``ConfigError`` where the LoRA belongs to other weights.
    """

    def __init__(self, run: str, few_step: str | None = None, runs: Path = Path("runs")) -> None:
        folder = find(Path(runs), run)
        network = load_network(folder)
        if not isinstance(network, ElasticDiT):
            raise ConfigError(f"{folder.name} is a few-step model: a teacher takes it as few_step beside its own run")
        self.network = network
        self.experiment: Experiment = load_experiment(folder)
        self.text_encoders = [build(component) for component in self.experiment.text_encoders]
        self.feature_width = network.spec.width
        self.patch_size = network.spec.patch_size
        self.channels = network.spec.latent_channels
        self.has_few_step = few_step is not None
        if few_step is not None:
            lora = find(Path(runs), few_step)
            start = load_experiment(lora).parents.get("start")
            if start is None or find(Path(runs), start).path != folder.path:
                raise ConfigError(f"few_step: {lora.name} began with {start}, not with the teacher {folder.name}")
            if not lora.weights.is_file():
                raise RunError(f"few_step: {lora.name} has no weights yet: go on with it by --resume {lora.name}")
            self._add_few_step(load_file(lora.weights), lora.name)

    def _add_few_step(self, weights: dict[str, Tensor], name: str) -> None:
        pairs = list(lora_pairs(weights, self.network.spec.width))
        if not pairs:
            raise RunError(f"few_step: {name} has no LoRA of the teacher's full width")
        rank = pairs[0][1].shape[0]
        # Its factor alpha / rank is in B already.
        add_adapters(self.network, [FEW_STEP], rank, alpha=rank)
        named = {f"{layer}.A": a for layer, a, _ in pairs} | {f"{layer}.B": b for layer, _, b in pairs}
        try:
            load_adapter(self.network, FEW_STEP, named)
        except ValueError as error:
            raise RunError(f"few_step: {name}: {error}") from error
        activate(self.network, None)
        self.network.requires_grad_(False)

    def check_latents(self, autoencoder: Component) -> str | None:
        own = self.experiment.autoencoder
        return None if autoencoder == own else f"it was trained on the latents of {own.class_path} {own.init_args}"

    @contextmanager
    def few_step(self) -> Iterator[None]:
        if not self.has_few_step:
            raise RunError("this teacher has no few-step LoRA: give it few_step")
        with using(self.network, FEW_STEP, afterwards=None):
            yield

    @torch.no_grad()
    def condition(self, captions: Sequence[str]) -> Condition:
        text = encode_text(self.text_encoders, captions)
        return Condition(text, unconditional(text))

    @torch.no_grad()
    def predict(self, x_t: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0) -> TeacherOutput:
        velocity, features = self.network.with_features(x_t, time, condition.text, width=FULL)
        velocity = velocity.float()
        if guidance != 1.0:
            without = self.network(x_t, time, condition.without, width=FULL).float()
            velocity = without + guidance * (velocity - without)
        return TeacherOutput(velocity, features.float())

    def to(self, device: torch.device) -> Self:
        self.network.to(device)
        for encoder in self.text_encoders:
            encoder.to(device)
        return self

    def shard(self, mesh: DeviceMesh) -> None:
        if not isinstance(next(self.network.parameters()), DTensor):
            shard(self.network, mesh)
