"""The pipelines for image-to-image sampling and inpainting."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pocketdit.diffusion.path import interpolate
from pocketdit.pipelines.base import PIXEL_FACTOR, Generator, PocketDiTPipelineBase, Request, StepCallback
from pocketdit.pipelines.schedules import set_times


class _FromImage(PocketDiTPipelineBase):
    """Base class of the pipelines that start from a noised image instead of pure noise."""

    def encode_given(self, image: Any, request: Request) -> Tensor:
        """Resize and encode the given images, and repeat them for the batch.

        Raises:
            ValueError: The number of images to sample is not a multiple of the number of given images.
        """
        latents = self.encode_images(self.image_processor.preprocess(image, request.height, request.width))
        return repeat_to(latents, request.images, "image")

    def start(self, request: Request, strength: float) -> tuple[Tensor, int]:
        """Return the remaining time steps, and the index of the first one.

        Raises:
            ValueError: The strength is not in [0, 1], or so small that no step remains.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be in [0, 1], not {strength}")
        kept = min(int(request.steps * strength), request.steps)
        if kept < 1:
            raise ValueError(
                f"strength {strength} of {request.steps} steps leaves no step; use a larger strength or more steps"
            )
        timesteps = set_times(self.scheduler, request.steps, self._execution_device)
        # Heun's scheduler evaluates the network twice per step, except for the last step.
        first = (request.steps - kept) * (2 if len(timesteps) > request.steps else 1)
        self.scheduler.set_begin_index(first)
        return timesteps[first:], first

    def noised(self, data: Tensor, noise: Tensor, index: int) -> Tensor:
        """Return the point on the path from data to noise at the scheduler's time ``index``."""
        time = self.scheduler.sigmas[index].float().expand(len(data)).to(data.device)
        return interpolate(data, noise, time)


class PocketDiTImg2ImgPipeline(_FromImage):
    """Changes images as the prompts request. See ``PocketDiTPipelineBase`` for the components of the pipeline."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Any,
        strength: float = 0.6,
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
        """Sample images, starting from noised versions of the given images.

        Args:
            prompt: One or several prompts. See ``PocketDiTPipeline`` for details on this and the other arguments.
            image: An image, a list of images, or a tensor (B, 3, H, W) in [0, 1]. The images are resized.
            strength: Fraction of the sampling steps to take, from 0 to 1. At 1, the given image has no influence.
            height: Height in pixels.
            width: Width in pixels.
            num_inference_steps: Number of steps at a strength of 1.
            guidance_scale: Guidance scale.
            negative_prompt: Negative prompt.
            num_images_per_prompt: Number of images per prompt.
            generator: One or several generators of the noise.
            latents: Noise (B, C, h, w) to use instead of random noise.
            output_type: Format of the images.
            return_dict: Whether to return an object with ``images`` rather than a tuple.
            callback_on_step_end: Function to call after every step.
            callback_on_step_end_tensor_inputs: Names of the tensors that this function receives.

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
        data = self.encode_given(image, request)
        noise = self.initial_noise(request, generator, latents)
        timesteps, first = self.start(request, strength)
        noisy = self.noised(data, noise, first)
        sampled = self.denoise(request, noisy, timesteps, callback_on_step_end, callback_on_step_end_tensor_inputs)
        return self.output(sampled, output_type, return_dict)


class PocketDiTInpaintPipeline(_FromImage):
    """Replaces parts of images as the prompts request. See ``PocketDiTPipelineBase`` for the pipeline's components."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Any,
        mask_image: Any,
        strength: float = 1.0,
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
        """Sample the masked part of images.

        After every step, the latents outside the mask are replaced with those of the given image at the same time.

        Args:
            prompt: One or several prompts. See ``PocketDiTPipeline`` for details on this and the other arguments.
            image: An image, a list of images, or a tensor (B, 3, H, W) in [0, 1]. The images are resized.
            mask_image: A mask for all images, or one mask per image. White pixels are sampled, and black pixels are
                kept. A latent position is kept if all of its pixels are black.
            strength: Fraction of the sampling steps to take, from 0 to 1.
            height: Height in pixels.
            width: Width in pixels.
            num_inference_steps: Number of steps at a strength of 1.
            guidance_scale: Guidance scale.
            negative_prompt: Negative prompt.
            num_images_per_prompt: Number of images per prompt.
            generator: One or several generators of the noise.
            latents: Noise (B, C, h, w) to use instead of random noise.
            output_type: Format of the images.
            return_dict: Whether to return an object with ``images`` rather than a tuple.
            callback_on_step_end: Function to call after every step.
            callback_on_step_end_tensor_inputs: Names of the tensors that this function receives.

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
        data = self.encode_given(image, request)
        pixels = self.mask_processor.preprocess(mask_image, request.height, request.width).to(data.device)
        mask = repeat_to(functional.max_pool2d(pixels, PIXEL_FACTOR), request.images, "mask_image")
        noise = self.initial_noise(request, generator, latents)
        timesteps, first = self.start(request, strength)

        def keep_outside(sampled: Tensor, step: int) -> Tensor:
            return mask * sampled + (1 - mask) * self.noised(data, noise, first + step + 1)

        sampled = self.denoise(
            request,
            self.noised(data, noise, first),
            timesteps,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            keep_outside,
        )
        return self.output(sampled, output_type, return_dict)


def repeat_to(tensor: Tensor, count: int, name: str) -> Tensor:
    """Repeat the items of a tensor until there are ``count`` items. The copies of an item follow each other.

    Raises:
        ValueError: ``count`` is not a multiple of the number of items.
    """
    if count % len(tensor):
        raise ValueError(f"{name}: the number of images to sample, {count}, must be a multiple of {len(tensor)}")
    return tensor.repeat_interleave(count // len(tensor), dim=0)
