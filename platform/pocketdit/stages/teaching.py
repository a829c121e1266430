"""Functions shared by the stages that have a teacher. They check its latents and encode text for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import Component
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.config.importing import import_class
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.stages.contract import StageInputs
from pocketdit.teachers.contract import StorableText, Teacher


def needed_teacher(experiment: Experiment) -> Component:
    """Return the configuration of the stage's teacher, without the few-step version if the stage does not use it."""
    teacher: Component = experiment.stage.init_args["teacher"]
    if import_class(experiment.stage.class_path).uses_few_step(experiment):
        return teacher
    unused = getattr(import_class(teacher.class_path), "few_step_arguments", ())
    return replace(teacher, init_args={name: value for name, value in teacher.init_args.items() if name not in unused})


def require_same_latents(experiment: BaseExperiment) -> None:
    """Raise ``ConfigError`` if the teacher was not trained on the student's latents. This loads no weights."""
    assert isinstance(experiment, Experiment)
    teacher: Component = experiment.stage.init_args["teacher"]
    import_class(teacher.class_path).check_latents(experiment.autoencoder, **teacher.init_args)


def require_same_channels(inputs: StageInputs[ElasticDiT], teacher: Teacher) -> None:
    """Raise ``ConfigError`` if the teacher's latents do not have as many channels as the student's."""
    channels = inputs.network.spec.latent_channels
    if teacher.channels != channels:
        raise ConfigError(
            f"backbone.latent_channels is {channels}, but the teacher's latents have {teacher.channels} channels; "
            "use a teacher that was trained with the same autoencoder"
        )


def teacher_condition(teacher: Teacher, batch: Mapping[str, Any], visible: Tensor | None = None) -> Any:
    """Return the teacher's condition for the captions of a batch. It uses stored embeddings if the batch contains them.

    Args:
        teacher: The teacher.
        batch: The batch.
        visible: (B,), bool. False for samples whose text is hidden from the student. For these samples, the teacher
            gets the empty caption.
    """
    captions: list[str] = batch["captions"]
    if visible is None:
        visible = torch.ones(len(captions), dtype=torch.bool)
    if "teacher_text" not in batch or not isinstance(teacher, StorableText):
        pairs = zip(captions, visible.tolist(), strict=True)
        return teacher.condition([caption if is_visible else "" for caption, is_visible in pairs])
    text, blank = ([_float32(tokens) for tokens in batch[key]] for key in ("teacher_text", "teacher_blank"))
    return teacher.condition_on([replace_hidden(*pair, visible) for pair in zip(text, blank, strict=True)], blank)


def replace_hidden(tokens: TextTokens, blank: TextTokens, visible: Tensor) -> TextTokens:
    """Replace the tokens of samples that are not visible with the tokens of the empty caption.

    If the tokens are padded to the longest caption of the batch, the result is padded to the longest remaining caption.
    """
    hidden = ~visible.to(tokens.mask.device)
    longest, length = int(tokens.mask.sum(dim=1).max()), int(blank.mask.sum())
    embeddings, mask = tokens.embeddings.clone(), tokens.mask.clone()
    if length > mask.shape[1]:
        embeddings = torch.nn.functional.pad(embeddings, (0, 0, 0, length - mask.shape[1]))
        mask = torch.nn.functional.pad(mask, (0, length - mask.shape[1]))
    embeddings[hidden], mask[hidden] = 0, False
    embeddings[hidden, :length], mask[hidden, :length] = blank.embeddings[0, :length], True
    kept = int(mask.sum(dim=1).max()) if longest == tokens.mask.shape[1] else mask.shape[1]
    return TextTokens(embeddings[:, :kept], mask[:, :kept])


def _float32(tokens: TextTokens) -> TextTokens:
    return tokens._replace(embeddings=tokens.embeddings.float())


def any_visible(text: Sequence[TextTokens]) -> Tensor:
    """Return a mask (B,) that is True for samples in which the student sees tokens of at least one text encoder."""
    return torch.stack([tokens.mask.any(dim=1) for tokens in text]).any(dim=0)
