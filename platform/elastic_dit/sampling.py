"""Prompts to pictures, at any width of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from elastic_dit.backbones.by_width import Network
from elastic_dit.config.experiment import Sampling
from elastic_dit.diffusion.guidance import guided
from elastic_dit.diffusion.samplers import SAMPLERS, uniform_times
from elastic_dit.draws import generator
from elastic_dit.encoders.conditioning import unconditional
from elastic_dit.encoders.inputs import Encoders


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
    how: Sampling,
    batch_size: int = 16,
) -> Tensor:
    """Pictures in [-1, 1], (len(prompts), 3, H, W), on the CPU. The same prompt and seed give the same picture."""
    device = next(network.parameters()).device
    factor = encoders.autoencoder.factor
    pictures = []
    for first in range(0, len(prompts), batch_size):
        some = prompts[first : first + batch_size]
        text = encoders.tokens(some)
        noise = start_noise(some, how.seed, encoders.autoencoder.channels, how.size[0] // factor, how.size[1] // factor)
        velocity = guided(
            lambda x, time, tokens: network(x, time, tokens, width=width).float(),
            text,
            unconditional(text),
            how.guidance,
        )
        times = uniform_times(how.steps, how.time_shift)
        latents = SAMPLERS[how.sampler](velocity, noise.to(device), times)
        pictures.append(encoders.autoencoder.decode(latents).float().cpu())
    return torch.cat(pictures)
