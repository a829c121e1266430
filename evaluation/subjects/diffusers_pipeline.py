"""A diffusers text-to-image pipeline as a subject."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from evaluation.subjects.image_cache import sample_images
from evaluation.subjects.sampling import device, group_by_size, image_seed
from pocketdit.errors import UserError
from pocketdit.images import require_finite


class DiffusersPipeline:
    """Samples images with any diffusers text-to-image pipeline.

    Image n of each prompt has its own generator with seed 1000 * ``seed`` + n, so images do not depend on batches.

    Args:
        model: Local folder, or a name on the Hugging Face hub.
        steps: Sampling steps.
        guidance: Guidance scale.
        size: (height, width) in pixels.
        seed: Seed of the images.
        batch_size: Images per batch.
        dtype: Precision of the weights.
        revision: Revision on the hub. Use a commit hash, because branches and tags may change.
        arguments: Additional arguments for calling the pipeline.
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
        self.name = Path(model).name
        self._pipeline: Any = None

    def provenance(self) -> dict[str, Any]:
        """Return the model, its files and the sampling settings."""
        import diffusers

        return {
            "subject": "diffusers",
            "model": self.model,
            "revision": self.revision,
            "files": self._files(),
            "pipeline": type(self._load()).__name__,
            "diffusers": diffusers.__version__,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.size),
            "seed": self.seed,
            "dtype": self.dtype,
            "arguments": self.arguments,
        }

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Sample the images.

        Raises:
            UserError: The pipeline cannot be loaded.
        """
        return sample_images(self, prompts, root)

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        """Yield image ``number`` of every prompt, grouped by image size.

        Raises:
            RunError: An image contains NaN or infinity.
        """
        pipeline = self._load()
        for (height, width), group in group_by_size(prompts, self.size):
            for first in range(0, len(group), self.batch_size):
                batch = group[first : first + self.batch_size]
                images = pipeline(
                    prompt=[prompt.text for prompt in batch],
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    height=height,
                    width=width,
                    generator=[torch.Generator("cpu").manual_seed(image_seed(self.seed, number)) for _ in batch],
                    output_type="np",
                    **self.arguments,
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
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(device())
        return self._pipeline

    def _files(self) -> list[tuple[str, int, int]]:
        """Return the names, sizes and modification times of the files in a local folder, to detect changes."""
        files = sorted(path for path in Path(self.model).rglob("*") if path.is_file())
        return [(str(f.relative_to(self.model)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
