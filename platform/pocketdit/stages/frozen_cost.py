"""Cost of the frozen networks in a training step: published autoencoders and text encoders, and teachers.

The built-in encoders are not counted, because they are small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from pocketdit.config.component import Component
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import EncodedExperiment, Experiment
from pocketdit.config.importing import import_class
from pocketdit.data_contract import DataDescription
from pocketdit.encoders.outlines import Outline
from pocketdit.stages.cost_inputs import batch_size, image_side, latent_grid
from pocketdit.stages.teaching import needed_teacher
from pocketdit.teachers.outline import TeacherOutline
from pocketdit.training.cost import Pass, StageCost, bytes_of, count_parameters

ENCODERS, TEACHER = "frozen encoders", "teacher"  # names of memory parts in a ``StageCost``


def encoder_passes(experiment: EncodedExperiment, device: torch.device, images: bool = True) -> list[Pass]:
    """Return the passes through the published encoders.

    Args:
        experiment: The configuration.
        device: Device of the networks.
        images: Whether the stage encodes the training images.
    """
    batch, side = batch_size(experiment), image_side(experiment)
    components = experiment.text_encoders if isinstance(experiment, Experiment) else ()
    text = [frozen_pass(name_of(component), outline(component, device), batch) for component in components]
    found = [replace(item, sharded=False, encoder="text") for item in text if item is not None]
    if images and (item := frozen_pass("autoencoder", outline(experiment.autoencoder, device), batch, side, side)):
        found.append(replace(item, sharded=False, encoder="images"))
    return found


def teacher_passes(experiment: Experiment, found: TeacherOutline | None, per_batch: float) -> list[Pass]:
    """Return the passes through a teacher and its text encoders.

    Args:
        experiment: The configuration.
        found: The outline of the teacher, or None if the teacher's size is not known.
        per_batch: Average number of passes through the teacher's network per batch.
    """
    if found is None:
        return []
    batch, sides = batch_size(experiment), latent_grid(experiment)
    teacher = frozen_pass("teacher", found.network, batch, *sides, per_batch=per_batch)
    passes = [teacher] if teacher else []
    for text_encoder in found.text_encoders:
        if item := frozen_pass("teacher's text encoder", text_encoder, batch):
            passes.append(replace(item, encoder="teacher text"))
    return passes


def teacher_bytes(experiment: Experiment, found: TeacherOutline | None) -> dict[str, int]:
    """Return the size in bytes of a teacher and its text encoders."""
    if found is None:
        return {}
    encoders = sum(bytes_of(encoder.network) for encoder in found.text_encoders)
    return {TEACHER: found.weight_bytes + encoders}


def without_stored(cost: StageCost, data: DataDescription) -> StageCost:
    """Return the cost of a step without the encoders whose results the data set already contains.

    These encoders are not loaded before the first preview.
    """
    stored = {
        "images": data.stored_autoencoder is not None,
        "text": bool(data.stored_text_encoders),
        "teacher text": bool(data.stored_teacher_text_encoders),
    }

    def is_stored(item: Pass) -> bool:
        return item.encoder is not None and stored[item.encoder]

    passes = cost.passes(torch.device("meta"))
    unloaded = [item for item in passes if is_stored(item)]
    if not unloaded:
        return cost
    loaded = [item for item in passes if item.encoder in ("images", "text") and not is_stored(item)]
    teacher_text = sum(bytes_of(item.network) for item in unloaded if item.encoder == "teacher text")
    return replace(
        cost,
        passes=lambda device: [item for item in cost.passes(device) if not is_stored(item)],
        replicated={**_without_encoders(cost.replicated), **replicated_bytes(loaded)},
        memory={name: size - teacher_text * (name == TEACHER) for name, size in cost.memory.items()},
        not_counted=(*cost.not_counted, "encoders whose results the data set stores"),
    )


def _without_encoders(replicated: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in replicated.items() if name != ENCODERS}


def replicated_bytes(passes: Sequence[Pass]) -> dict[str, int]:
    """Return the size in bytes of the published encoders, which FSDP2 does not shard."""
    return {ENCODERS: sum(bytes_of(item.network) for item in passes)} if passes else {}


def teacher_outline(experiment: Experiment, device: torch.device) -> TeacherOutline | None:
    """Return the outline of the stage's teacher, or None if the teacher's class or run does not provide one."""
    component = needed_teacher(experiment)
    create = getattr(import_class(component.class_path), "outline", None)
    tokens = max(text_lengths(experiment.text_encoders))
    found: TeacherOutline | None = None if create is None else create(device, tokens, **component.init_args)
    return found


def outline(component: Component, device: torch.device) -> Outline | None:
    """Return the outline of an encoder, or None if its class does not provide one."""
    create = getattr(import_class(component.class_path), "outline", None)
    found: Outline | None = None if create is None else create(device, **component.init_args)
    return found


def name_of(component: Component) -> str:
    """Return the name of a component's class."""
    return component.class_path.rpartition(".")[2]


def frozen_pass(label: str, found: Outline | None, *arguments: int, per_batch: float = 1.0) -> Pass | None:
    """Return a pass through a frozen network, or None if the network has no outline."""
    if found is None:
        return None
    forward = partial(found.run, *arguments)
    return Pass(label, forward, found.network, count_parameters(found.network), per_batch, trained=False)
