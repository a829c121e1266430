"""Samples images for prompts with a sub-network of any width."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.diffusion.guidance import guided_velocity
from pocketdit.diffusion.portable_noise import portable_noise
from pocketdit.diffusion.sampler_names import NoiseName
from pocketdit.diffusion.samplers import SAMPLERS, Velocity, uniform_times
from pocketdit.encoders.conditioning import hide_empty, unconditional
from pocketdit.encoders.inputs import Encoders
from pocketdit.seeding import generator

BATCH = 16  # number of prompts that are sampled at a time


def initial_noise(
    prompts: Sequence[str], seed: int, channels: int, height: int, width: int, noise: NoiseName = "torch"
) -> Tensor:
    """Draw the initial noise for sampling, (B, C, h, w).

    The noise for a prompt depends only on the prompt, the seed, and the size, not on the rest of the batch or the
    network's width. Portable noise does not depend on the prompt either.
    """
    if noise == "portable":
        return torch.from_numpy(portable_noise(seed, (channels, height, width))).repeat(len(prompts), 1, 1, 1)
    return torch.stack(
        [
            torch.randn(channels, height, width, generator=generator("start", seed, prompt, height, width))
            for prompt in prompts
        ]
    )


@torch.no_grad()
def sample(
    network: Network,
    encoders: Encoders,
    prompts: Sequence[str],
    width: float,
    sampling: Sampling,
    batch_size: int = BATCH,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Sample one image per prompt. The same prompt and seed always produce the same image.

    Args:
        network: The backbone.
        encoders: The text encoders and the autoencoder, which decodes the sampled latents.
        prompts: The prompts. The image for an empty prompt is sampled without text conditioning.
        width: Width of the sub-network, as a fraction of the full width.
        sampling: Sampler, number of steps, guidance scale, seed, and image size.
        batch_size: Number of prompts per batch.
        on_step: Function that is called with the number of completed steps before each evaluation of the network.
            Steps are counted across all batches. An exception that the function raises ends the sampling.

    Returns:
        Images in [-1, 1], (len(prompts), 3, H, W), on the CPU.
    """
    images = []
    for first in range(0, len(prompts), batch_size):
        batch, before = prompts[first : first + batch_size], first // batch_size * sampling.steps
        latents = sample_latents(network, encoders, batch, width, sampling, on_step, before)
        images.append(encoders.autoencoder.decode(latents).float().cpu())
    return torch.cat(images)


@torch.no_grad()
def sample_latents(
    network: Network,
    encoders: Encoders,
    prompts: Sequence[str],
    width: float,
    sampling: Sampling,
    on_step: Callable[[int], None] | None = None,
    before: int = 0,
) -> Tensor:
    """Sample the latents for one batch of prompts, without decoding them.

    Args:
        network: The backbone.
        encoders: The text encoders and the autoencoder, whose dimensions determine the size of the latents.
        prompts: The prompts.
        width: Width of the sub-network, as a fraction of the full width.
        sampling: Sampler, number of steps, guidance scale, seed, and image size.
        on_step: See ``sample``.
        before: Number of steps of earlier batches, which is included in the count passed to ``on_step``.

    Returns:
        Latents (len(prompts), C, h, w) on the device of the network.
    """
    factor = encoders.autoencoder.factor
    text = hide_empty(encoders.tokens(prompts), prompts)
    noise = initial_noise(
        prompts, sampling.seed, encoders.autoencoder.channels, sampling.size[0] // factor, sampling.size[1] // factor,
        sampling.noise,
    )  # fmt: skip
    velocity = guided_velocity(
        lambda x, time, tokens: network(x, time, tokens, width=width).float(),
        text,
        unconditional(text),
        sampling.guidance,
    )
    times = uniform_times(sampling.steps, sampling.time_shift)
    if on_step is not None:
        velocity = _watched(velocity, times, before, on_step)
    return SAMPLERS[sampling.sampler](velocity, noise.to(next(network.parameters()).device), times)


def _watched(velocity: Velocity, times: Sequence[float], before: int, on_step: Callable[[int], None]) -> Velocity:
    """Wrap a velocity function so that each evaluation first calls ``on_step`` with the number of completed steps.

    Args:
        velocity: The velocity function.
        times: The sampling times.
        before: Number of steps of earlier batches.
        on_step: The function to call.
    """
    later = torch.tensor(times, dtype=torch.float32)

    def watched(x: Tensor, time: Tensor) -> Tensor:
        on_step(before + int((later > time[0].cpu()).sum()))
        return velocity(x, time)

    return watched
