"""The normalized latents z' = (z - mean) / std of the published autoencoders that diffusers loads.

For Flux, the mean is the shift factor (0.1159), and the standard deviation is the inverse of the scaling factor
(1 / 0.3611). For Qwen-Image, each channel has its own mean and standard deviation.
"""

from typing import Any

import torch
from torch import Tensor


def has_frames(model: Any) -> bool:
    """Return whether a model is a video autoencoder, as Qwen-Image's is. An image is a video with a single frame."""
    return "latents_mean" in model.config and "z_dim" in model.config


def latent_statistics(model: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of an autoencoder's latents, each (C, 1, 1) or (1, 1, 1)."""
    config = model.config
    if has_frames(model):
        mean, std = config["latents_mean"], config["latents_std"]
    else:
        mean, std = [config["shift_factor"]], [1 / config["scaling_factor"]]
    return torch.tensor(mean, device=device).view(-1, 1, 1), torch.tensor(std, device=device).view(-1, 1, 1)


def encode_normalized(model: Any, images: Tensor) -> Tensor:
    """Encode images (B, 3, H, W) in [-1, 1] to the float32 mode of the normalized latents (B, C, h, w)."""
    mean, std = latent_statistics(model, images.device)
    images = images.to(model.dtype)
    with torch.autocast(images.device.type, enabled=False):
        posterior = model.encode(images[:, :, None] if has_frames(model) else images).latent_dist
    latents: Tensor = posterior.mode()
    return ((latents[:, :, 0] if has_frames(model) else latents).float() - mean) / std


def decode_normalized(model: Any, latents: Tensor) -> Tensor:
    """Decode normalized latents (B, C, h, w) to float32 images (B, 3, H, W), clamped to [-1, 1]."""
    mean, std = latent_statistics(model, latents.device)
    latents = (latents.float() * std + mean).to(model.dtype)
    with torch.autocast(latents.device.type, enabled=False):
        images: Tensor = model.decode(latents[:, :, None] if has_frames(model) else latents).sample
    return (images[:, :, 0] if has_frames(model) else images).float().clamp(-1, 1)
