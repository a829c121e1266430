"""The normalized latents z' = (z - mean) / std of the published autoencoders that diffusers loads.

For FLUX.1 and Stable Diffusion 3, the mean is the shift factor (0.1159 for FLUX.1), and the standard deviation is the
inverse of the scaling factor (1 / 0.3611). For Qwen-Image, each channel has its own mean and standard deviation. For
FLUX.2, the mean and standard deviation come from a batch norm over 2x2 patches, so they also depend on the position in
the patch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def has_frames(model: Any) -> bool:
    """Return whether a model is a video autoencoder, such as Qwen-Image's. An image is a video with a single frame."""
    return "latents_mean" in model.config and "z_dim" in model.config


def has_batch_norm(model: Any) -> bool:
    """Return whether a model normalizes its latents with a batch norm over 2x2 patches, as in FLUX.2."""
    return "batch_norm_eps" in model.config


def latent_statistics(model: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of an autoencoder's latents.

    Args:
        model: The autoencoder.
        latents: Latents (B, C, h, w). Only their device and sides are used.

    Returns:
        Two float32 tensors that can be broadcast to (C, h, w).
    """
    config, device = model.config, latents.device
    if has_batch_norm(model):
        statistics = model.bn.running_mean, (model.bn.running_var.float() + config["batch_norm_eps"]).sqrt()
        patch = torch.stack([F.pixel_shuffle(each.float().view(-1, 1, 1), 2) for each in statistics]).to(device)
        repeats = (1, 1, latents.shape[-2] // 2, latents.shape[-1] // 2)
        mean, std = patch.repeat(repeats)
        return mean, std
    if has_frames(model):
        numbers = config["latents_mean"], config["latents_std"]
    else:
        numbers = [config["shift_factor"]], [1 / config["scaling_factor"]]
    mean, std = (torch.tensor(each, device=device).view(-1, 1, 1) for each in numbers)
    return mean, std


def encode_normalized(model: Any, images: Tensor) -> Tensor:
    """Encode images (B, 3, H, W) in [-1, 1] to normalized float32 latents (B, C, h, w), the mode of the posterior."""
    images = images.to(model.dtype)
    with torch.autocast(images.device.type, enabled=False):
        posterior = model.encode(images[:, :, None] if has_frames(model) else images).latent_dist
    latents: Tensor = posterior.mode()
    latents = (latents[:, :, 0] if has_frames(model) else latents).float()
    mean, std = latent_statistics(model, latents)
    return (latents - mean) / std


def decode_normalized(model: Any, latents: Tensor) -> Tensor:
    """Decode normalized latents (B, C, h, w) to float32 images (B, 3, H, W), clamped to [-1, 1]."""
    mean, std = latent_statistics(model, latents)
    latents = (latents.float() * std + mean).to(model.dtype)
    with torch.autocast(latents.device.type, enabled=False):
        images: Tensor = model.decode(latents[:, :, None] if has_frames(model) else latents).sample
    return (images[:, :, 0] if has_frames(model) else images).float().clamp(-1, 1)
