"""The text-to-image pipeline."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.pipelines.base import Generator, PocketDiTPipelineBase, StepCallback
from pocketdit.pipelines.schedules import set_times


class PocketDiTPipeline(PocketDiTPipelineBase):
    """Samples images from prompts. See ``PocketDiTPipelineBase`` for the components of the pipeline."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generator = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Sample images from prompts. Settings that are None default to those of the run's previews.

        Args:
            prompt: One or several prompts. Images for an empty prompt are sampled without text.
            height: Height in pixels.
            width: Width in pixels. ``set_width`` selects the width of the network.
            num_inference_steps: Number of sampling steps.
            guidance_scale: Scale of classifier-free guidance; 1 disables it.
            negative_prompt: Prompt from which guidance leads away (default: no text).
            num_images_per_prompt: Number of images per prompt.
            generator: One or several generators of the initial noise.
            latents: Initial noise (B, C, h, w) to use instead of random noise.
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: Whether to return an object with ``images`` rather than a tuple.
            callback_on_step_end: Function that is called after every step with the pipeline, the step index, the time
                step and a dictionary of tensors. If it returns a dictionary with ``latents``, these replace the
                current latents.
            callback_on_step_end_tensor_inputs: Names of the tensors in the dictionary. Only ``latents`` is available.

        Returns:
            An object whose ``images`` contains one image per prompt and repetition.

        Raises:
            ValueError: An argument is invalid.
        """
        request = self.check_request(
            prompt,
            negative_prompt,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            num_images_per_prompt,
            callback_on_step_end_tensor_inputs,
        )
        noise = self.initial_noise(request, generator, latents)
        timesteps = set_times(self.scheduler, request.steps, self._execution_device)
        sampled = self.denoise(request, noise, timesteps, callback_on_step_end, callback_on_step_end_tensor_inputs)
        return self.output(sampled, output_type, return_dict)
