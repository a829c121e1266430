"""A diffusers text-to-image pipeline as a subject."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from evaluation.subjects.image_cache import sample_images
from evaluation.subjects.sampling import device, group_by_size, image_seed
from pocketdit.config.errors import did_you_mean
from pocketdit.errors import ConfigError, UserError
from pocketdit.images import require_finite

# Arguments of a pipeline that must not be set in ``arguments``, and what determines them instead.
_SETTINGS = {
    "prompt": "the prompt set",
    "num_inference_steps": "steps",
    "height": "size",
    "width": "size",
    "generator": "seed",
    "output_type": "the evaluation",
}
_SAFETY_CHECKER = "safety_checker"
_SCALE, _TRUE_SCALE, _NEGATIVE = "guidance_scale", "true_cfg_scale", "negative_prompt"


class DiffusersPipeline:
    """Samples images with any diffusers text-to-image pipeline.

    Image n of each prompt has a separate generator with seed 1000 * ``seed`` + n, so images do not depend on the batch
    size. Stable Diffusion's safety checker is turned off, because it would replace some images with black ones.

    Args:
        model: Local folder, or a name on the Hugging Face Hub.
        steps: Sampling steps.
        guidance: Scale of classifier-free guidance, or of the guidance that a network was distilled with. It is passed
            in the argument that the pipeline applies: for Qwen-Image, this is ``true_cfg_scale`` with the negative
            prompt " ".
        size: (height, width) in pixels.
        seed: Seed of the images.
        batch_size: Images per batch.
        dtype: Precision of the weights.
        revision: Revision on the Hub. Use a commit hash, because branches and tags may change.
        arguments: Additional arguments for calling the pipeline.

    Raises:
        ConfigError: ``arguments`` contains an argument that another setting determines.
    """

    def __init__(
        self,
        model: str,
        steps: int = 28,
        guidance: float = 4.5,
        size: tuple[int, int] = (1024, 1024),
        seed: int = 0,
        batch_size: int = 1,
        dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
        revision: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.revision, self.dtype = model, revision, dtype
        self.steps, self.guidance, self.size, self.seed = steps, guidance, size, seed
        self.batch_size, self.arguments = batch_size, arguments or {}
        for name in self.arguments:
            if name in _SETTINGS:
                raise ConfigError(f"arguments.{name}: {_SETTINGS[name]} already determines it; remove it")
        self.name = Path(model).name
        self._pipeline: Any = None

    def provenance(self) -> dict[str, Any]:
        """Return the model, its files and the sampling settings."""
        import diffusers

        pipeline = self._load()
        arguments = call_arguments(pipeline, self.guidance, self.arguments)
        return {
            "subject": "diffusers",
            "model": self.model,
            "revision": self.revision,
            "files": self._files(),
            "pipeline": type(pipeline).__name__,
            "diffusers": diffusers.__version__,
            "steps": self.steps,
            "guidance": arguments[guidance_argument(pipeline)],
            "guidance_argument": guidance_argument(pipeline),
            "size": list(self.size),
            "seed": self.seed,
            "dtype": self.dtype,
            "arguments": arguments,
        }

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Sample the images. Their provenance includes how many prompts each text encoder truncates.

        Raises:
            UserError: The pipeline cannot be loaded.
        """
        images = sample_images(self, prompts, root)
        counts = count_truncated(self._load(), [prompt.text for prompt in prompts.prompts], self.arguments)
        return replace(images, provenance={**images.provenance, "truncated_prompts": counts})

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        """Yield image ``number`` of every prompt, grouped by image size.

        Raises:
            RunError: An image contains NaN or infinity.
        """
        pipeline = self._load()
        arguments = call_arguments(pipeline, self.guidance, self.arguments)
        for (height, width), group in group_by_size(prompts, self.size):
            for first in range(0, len(group), self.batch_size):
                batch = group[first : first + self.batch_size]
                images = pipeline(
                    prompt=[prompt.text for prompt in batch],
                    num_inference_steps=self.steps,
                    height=height,
                    width=width,
                    generator=[torch.Generator("cpu").manual_seed(image_seed(self.seed, number)) for _ in batch],
                    output_type="np",
                    **{name: _for_batch(name, value, len(batch)) for name, value in arguments.items()},
                ).images
                images = require_finite(np.asarray(images), self.name)
                yield from zip(batch, np.round(images * 255).astype(np.uint8), strict=True)

    def _load(self) -> Any:
        if self._pipeline is None:
            from diffusers import DiffusionPipeline

            try:
                pipeline = DiffusionPipeline.from_pretrained(
                    self.model, revision=self.revision, torch_dtype=getattr(torch, self.dtype)
                )
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{self.model}: cannot be loaded as a diffusers pipeline ({reason})") from error
            _check_arguments(self.model, pipeline, self.arguments)
            if _SAFETY_CHECKER in pipeline.components:  # would replace some images with black ones
                setattr(pipeline, _SAFETY_CHECKER, None)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(device())
        return self._pipeline

    def _files(self) -> list[tuple[str, int, int]]:
        """Return the names, sizes and modification times of the files in a local folder, to detect changes."""
        files = sorted(path for path in Path(self.model).rglob("*") if path.is_file())
        return [(str(f.relative_to(self.model)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def guidance_argument(pipeline: Any) -> str:
    """Return the name of the argument whose guidance scale a pipeline applies.

    Pipelines with ``true_cfg_scale`` pass ``guidance_scale`` to their network, which ignores it unless it was distilled
    with guidance (FLUX.1-dev was; Qwen-Image and FLUX.1-schnell were not).
    """
    config = getattr(getattr(pipeline, "transformer", None), "config", {})
    has_true_scale = _TRUE_SCALE in inspect.signature(pipeline.__call__).parameters
    return _TRUE_SCALE if has_true_scale and not config.get("guidance_embeds", False) else _SCALE


def call_arguments(pipeline: Any, guidance: float, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for calling a pipeline with guidance. Those in ``arguments`` take precedence."""
    name = guidance_argument(pipeline)
    call = {name: guidance, **arguments}
    if name == _TRUE_SCALE and call[name] > 1 and not call.keys() & {_NEGATIVE, f"{_NEGATIVE}_embeds"}:
        call[_NEGATIVE] = " "  # without a negative prompt, pipelines with this argument sample without guidance
    return call


def count_truncated(pipeline: Any, texts: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of texts that exceed a tokenizer's limit, for each tokenizer of a pipeline.

    A tokenizer's own limit is the context length of its text encoder, such as 77 tokens for CLIP. Most pipelines with
    other text encoders have a lower limit, ``max_sequence_length``.
    """
    parameter = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    length = arguments.get("max_sequence_length", parameter.default if parameter else None)
    counts = {}
    for name, tokenizer in pipeline.components.items():
        if name.startswith("tokenizer") and tokenizer is not None:
            limit = min(tokenizer.model_max_length, length or tokenizer.model_max_length)
            counts[name] = sum(len(tokenizer(text).input_ids) > limit for text in texts)
    return counts


def _check_arguments(model: str, pipeline: Any, arguments: Mapping[str, Any]) -> None:
    """Check that a pipeline accepts all arguments with which it is called."""
    parameters = inspect.signature(pipeline.__call__).parameters
    for name in arguments:
        if name not in parameters:
            raise ConfigError(
                f"arguments.{name}: {type(pipeline).__name__} has no such argument{did_you_mean(name, parameters)}"
            )
    if missing := [name for name in (*_SETTINGS, guidance_argument(pipeline)) if name not in parameters]:
        raise UserError(
            f"{model}: {type(pipeline).__name__} has no argument {missing[0]} and cannot be evaluated; use a "
            "text-to-image pipeline"
        )


def _for_batch(name: str, value: Any, count: int) -> Any:
    """Return an argument for a batch. Some pipelines need one negative prompt per prompt."""
    return [value] * count if name == _NEGATIVE and isinstance(value, str) else value
