"""Prompts to pictures, at any width of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketdit.backbones.by_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.diffusion.guidance import guided
from pocketdit.diffusion.samplers import SAMPLERS, uniform_times
from pocketdit.encoders.conditioning import unconditional
from pocketdit.encoders.inputs import Encoders
from pocketdit.seeding import generator


def start_noise(prompts: Sequence[str], seed: int, channels: int, height: int, width: int) -> Tensor:
    """One noise a prompt (B, C, h, w), a function of prompt, seed and size: the same in any batch and width."""
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
    """Pictures in [-1, 1], (len(prompts), 3, H, W), on the CPU. The same prompt and seed give the same picture."""
    device = next(network.parameters()).device
    factor = encoders.autoencoder.factor
    pictures = []
    for first in range(0, len(prompts), batch_size):
        some = prompts[first : first + batch_size]
        text = encoders.tokens(some)
        noise = start_noise(
            some, sampling.seed, encoders.autoencoder.channels, sampling.size[0] // factor, sampling.size[1] // factor
        )
        velocity = guided(
            lambda x, time, tokens: network(x, time, tokens, width=width).float(),
            text,
            unconditional(text),
            sampling.guidance,
        )
        times = uniform_times(sampling.steps, sampling.time_shift)
        latents = SAMPLERS[sampling.sampler](velocity, noise.to(device), times)
        pictures.append(encoders.autoencoder.decode(latents).float().cpu())
    return torch.cat(pictures)
