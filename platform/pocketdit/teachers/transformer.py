"""Loads a published transformer of diffusers, and checks that it is complete and of the right kind."""

from typing import Any

import torch

from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.errors import RunError
from pocketdit.teachers.architecture import Architecture


def load_transformer(architecture: Architecture, repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    """Load a repository's transformer onto the CPU.

    Raises:
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """
    import diffusers  # this import takes seconds and is needed only here

    loader = getattr(diffusers, architecture.transformer)
    description = f"a {architecture.transformer}"
    source: dict[str, Any] = {"subfolder": "transformer", "revision": revision}
    with explain_load_errors(description, repository):
        config = loader.load_config(repository, **source)
    if config.get("_class_name") != architecture.transformer:
        raise RunError(f"{repository}: transformer/ contains a {config.get('_class_name')}, not {description}")
    for name, expected in architecture.required.items():
        value = config.get(name)
        if value not in (expected, None):
            raise RunError(
                f"{repository}: not {architecture.name}'s text-to-image transformer: its config sets {name} to {value}"
            )
    with explain_load_errors(description, repository):
        # By default, from_pretrained loads the weights without first initializing gigabytes of random weights.
        model, report = loader.from_pretrained(
            repository, **source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    require_complete(description, repository, report["missing_keys"])
    return model


def require_same_shapes(few_step: Any, base: Any, few_step_name: str, base_name: str) -> None:
    """Check that the few-step transformer has the same architecture as the base transformer.

    Raises:
        RunError: A weight exists in only one of the transformers, or has different shapes in the two.
    """
    shapes, expected = ({name: each.shape for name, each in model.named_parameters()} for model in (few_step, base))
    different = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
    if different:
        raise RunError(
            f"few_step: {few_step_name} does not have the architecture of {base_name}: {different[0]} differs"
        )
