"""Cost estimates for knowledge distillation and step distillation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import active_adapter
from pocketdit.backbones.per_width import split_by_width
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.stages.cost_inputs import batch_size, image_side, image_tokens, latent_grid, stage_settings
from pocketdit.stages.elastic_cost import build_update, elastic_cost
from pocketdit.stages.frozen_cost import (
    encoder_passes,
    replicated_bytes,
    teacher_bytes,
    teacher_outline,
    teacher_passes,
)
from pocketdit.stages.lora_roles import CRITIC, STUDENT, add_roles
from pocketdit.stages.projectors import build_projector
from pocketdit.training.cost import (
    NOT_COUNTED,
    Pass,
    StageCost,
    network_inputs,
    optimizer_bytes,
    parameters_by_width,
)

META = torch.device("meta")


def knowledge_distillation_cost(experiment: Experiment) -> StageCost:
    """Estimate the cost of an elastic training step with a teacher."""
    settings, found = stage_settings(experiment), teacher_outline(experiment, META)
    cost = elastic_cost(experiment, found.feature_width if found and settings["feature_weight"] else None)
    per_batch = found.passes(settings["teacher_guidance"]) if found else 0

    def passes(device: torch.device) -> list[Pass]:
        return [*cost.passes(device), *teacher_passes(experiment, teacher_outline(experiment, device), per_batch)]

    return replace(
        cost,
        passes=passes,
        memory={**cost.memory, **teacher_bytes(experiment, found)},
        not_counted=without_teacher(found is None),
    )


def without_teacher(is_unknown: bool) -> tuple[str, ...]:
    """Return the parts of a run that the estimate does not count, including a teacher of unknown architecture."""
    return (*NOT_COUNTED, "the teacher, whose size is not known yet") if is_unknown else NOT_COUNTED


def step_distillation_cost(experiment: Experiment) -> StageCost:
    """Estimate the average cost of an iteration of step distillation."""
    settings, found = stage_settings(experiment), teacher_outline(experiment, META)
    feature_width = found.feature_width if found and settings["feature_weight"] else None
    networks = build_students(experiment, settings, feature_width, META)
    trained = [value for network in networks.values() for value in network.parameters() if value.requires_grad]
    widest = max(experiment.dit.widths)
    uses_few_step = import_class(experiment.stage.class_path).uses_few_step(experiment)
    matching = found.passes(settings["guidance"]) if found and settings["matching_weight"] else 0
    per_batch = (matching + uses_few_step) / settings["student_every"]
    encodes_images = settings["student_input"] == "data"

    def passes(device: torch.device) -> list[Pass]:
        students = build_students(experiment, settings, feature_width, device)
        return [
            *student_passes(experiment, settings, students, device),
            *teacher_passes(experiment, teacher_outline(experiment, device), per_batch),
            *encoder_passes(experiment, device, encodes_images),
        ]

    def update(device: torch.device) -> Callable[[], None]:
        students = build_students(experiment, settings, feature_width, device)
        return build_update(experiment.optimizer, students[widest], sums_gradients=False)

    named = [(str(index), value) for index, value in enumerate(trained)]
    return StageCost(
        image_size=image_side(experiment),
        batch=batch_size(experiment),
        positions=image_tokens(experiment),
        passes=passes,
        update=update,
        memory={
            "weights": weights_bytes(networks, shared=experiment.training.strategy != "fsdp2"),
            "optimizer state": optimizer_bytes(experiment.optimizer, named),
            **teacher_bytes(experiment, found),
        },
        gradients=sum(value.nbytes for value in networks[widest].parameters() if value.requires_grad),
        replicated=replicated_bytes(encoder_passes(experiment, META, encodes_images)),
        not_counted=without_teacher(found is None),
    )


def build_students(
    experiment: Experiment, settings: dict[str, Any], feature_width: int | None, device: torch.device
) -> dict[float, nn.ModuleDict]:
    """For each width, build the frozen network, the LoRA adapters of the student and the critic, and the projector."""
    spec, students = experiment.dit, {}
    with device:
        split = split_by_width(ElasticDiT(spec).requires_grad_(False), share_weights=True)
        for width in spec.widths:
            network = split.for_width(width)
            network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
            add_roles(network, settings["rank"], settings["alpha"])
            parts: dict[str, nn.Module] = {"student": network}
            if feature_width is not None:
                parts["projector"] = build_projector(spec.hidden_size(width), feature_width)
            students[width] = nn.ModuleDict(parts)
    return students


def weights_bytes(networks: dict[float, nn.ModuleDict], shared: bool) -> int:
    """Return the size of all weights in bytes. Unless FSDP2 shards them, the widths share the base weights."""
    base = [sum(value.nbytes for value in own_weights(network, adapters=False)) for network in networks.values()]
    adapters = [sum(value.nbytes for value in own_weights(network, adapters=True)) for network in networks.values()]
    return (max(base) if shared else sum(base)) + sum(adapters)


def own_weights(network: nn.ModuleDict, adapters: bool) -> Iterator[Tensor]:
    """Yield the weights of one width's LoRA adapters and projector, or its base weights if ``adapters`` is false."""
    for name, value in network.named_parameters():
        if (".lora_" in name or name.startswith("projector")) == adapters:
            yield value


def student_passes(
    experiment: Experiment, settings: dict[str, Any], students: dict[float, nn.ModuleDict], device: torch.device
) -> list[Pass]:
    """Return the passes of the students and critics. The widths take turns."""
    share, every = 1 / len(students), settings["student_every"]
    rolled_out = (settings["steps"] - 1) / 2 if settings["student_input"] == "rollout" else 0.0
    # Passes without gradients: the rollout, the student when it is not trained, and the critic in L_DMD.
    untrained = rolled_out + 1 - 1 / every + (1 / every if settings["matching_weight"] else 0)
    lengths, passes = text_lengths(experiment.text_encoders), []
    parameters = parameters_by_width(experiment.dit)
    for width, parts in students.items():
        network = parts["student"]
        assert isinstance(network, ElasticDiT)
        inputs = network_inputs(network.spec, batch_size(experiment), latent_grid(experiment), str(device), lengths)

        def student(network: ElasticDiT, parts: nn.ModuleDict, inputs: Any) -> Tensor:
            prediction, features = network.forward_with_features(*inputs)
            loss = flow_matching_loss(prediction, inputs[0])
            return loss + parts["projector"](features).square().mean() if "projector" in parts else loss

        def critic(network: ElasticDiT, inputs: Any) -> Tensor:
            with active_adapter(network, CRITIC, restore=STUDENT):
                return flow_matching_loss(network(*inputs), inputs[0])

        make = partial(Pass, network=parts, parameters=parameters[width])
        passes += [
            make(f"{width:g}x, student", partial(student, network, parts, inputs), per_batch=share / every),
            make(f"{width:g}x, critic", partial(critic, network, inputs), per_batch=share),
            make(f"{width:g}x, no gradients", partial(network, *inputs), per_batch=share * untrained, trained=False),
        ]
    return passes
