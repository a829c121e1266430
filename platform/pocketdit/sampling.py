"""Image sampling from prompts at any width of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.diffusion.guidance import guided_velocity
from pocketdit.diffusion.samplers import SAMPLERS, uniform_times
from pocketdit.encoders.conditioning import hide_empty, unconditional
from pocketdit.encoders.inputs import Encoders
from pocketdit.seeding import generator


def initial_noise(prompts: Sequence[str], seed: int, channels: int, height: int, width: int) -> Tensor:
    """Draw the initial noise for sampling, (B, C, h, w).

    The noise for a prompt depends only on the prompt, the seed, and the size, not on the rest of the batch or the
    network's width.
    """
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
    batch_size: int = 16,
) -> Tensor:
    """Sample one image per prompt. The same prompt and seed always give the same image.

    Args:
        network: The backbone.
        encoders: The text encoders and the autoencoder, which decodes the sampled latents.
        prompts: The prompts. An empty prompt is sampled without text.
        width: Width of the sub-network, as a fraction of the full width.
        sampling: Sampler, number of steps, guidance scale, seed, and image size.
        batch_size: Number of prompts per batch.

    Returns:
        Images in [-1, 1], (len(prompts), 3, H, W), on the CPU.
    """
    device = next(network.parameters()).device
    factor = encoders.autoencoder.factor
    images = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        text = hide_empty(encoders.tokens(batch), batch)
        noise = initial_noise(
            batch, sampling.seed, encoders.autoencoder.channels, sampling.size[0] // factor, sampling.size[1] // factor
        )
        velocity = guided_velocity(
            lambda x, time, tokens: network(x, time, tokens, width=width).float(),
            text,
            unconditional(text),
            sampling.guidance,
        )
        times = uniform_times(sampling.steps, sampling.time_shift)
        latents = SAMPLERS[sampling.sampler](velocity, noise.to(device), times)
        images.append(encoders.autoencoder.decode(latents).float().cpu())
    return torch.cat(images)
