"""The published autoencoders of Flux and Qwen-Image, with diffusers."""

from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.encoders.contract import FrozenModule
from pocketdit.errors import RunError

AutoencoderKind = Literal["flux", "qwen_image"]
_CLASSES: dict[AutoencoderKind, str] = {"flux": "AutoencoderKL", "qwen_image": "AutoencoderKLQwenImage"}


class DiffusersAutoencoder(FrozenModule):
    """A variational autoencoder. Latents are the mode of the posterior, normalized as its authors do.

    The mode is used rather than a sample because the posterior is narrow and an image then has exactly one latent,
    which can be stored. The normalization, z' = (z - mean) / std, is read from the checkpoint: one shift and 1 /
    scaling factor for Flux (0.1159 and 1 / 0.3611), and a mean and a standard deviation per channel for Qwen-Image.

    Args:
        repository: A folder (of the autoencoder, or of a pipeline with the autoencoder in ``vae/``) or the name of a
            pipeline on the Hugging Face hub, such as black-forest-labs/FLUX.1-dev or Qwen/Qwen-Image. The weights
            must be in safetensors.
        kind: The architecture.
        revision: Revision of the hub's repository.
        dtype: Precision of weights and arithmetic. The results are float32 in any case.

    Raises:
        RunError: The checkpoint is missing, incomplete or of another kind, or its factor is not 8.
    """

    factor: int = 8
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        repository: str,
        kind: AutoencoderKind,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        # Qwen-Image's is a video autoencoder. An image is a video of one frame.
        self.has_frames = kind == "qwen_image"
        self.model = _load(repository, kind, revision, getattr(torch, dtype))
        config = self.model.config
        match kind:
            case "flux":
                if config.shift_factor is None:
                    raise RunError(f"{repository}: not the autoencoder of Flux: its config has no shift_factor")
                self.channels = int(config.latent_channels)
                factor = 2 ** (len(config.block_out_channels) - 1)
                mean, std = [config.shift_factor], [1 / config.scaling_factor]
            case "qwen_image":
                self.channels = int(config.z_dim)
                factor = 2 ** len(config.temperal_downsample)
                mean, std = config.latents_mean, config.latents_std
            case _:
                assert_never(kind)
        if factor != self.factor:
            raise RunError(
                f"{repository}: downsamples images by a factor of {factor}, but the published autoencoders use "
                f"{self.factor}; use one of these"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1], sides multiples of ``factor``, to latents (B, C, h, w), float32."""
        if images.shape[-2] % self.factor or images.shape[-1] % self.factor:
            raise ValueError(f"image sides must be multiples of {self.factor}, not {tuple(images.shape[-2:])}")
        images = images.to(self.model.dtype)
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.model.encode(images[:, :, None] if self.has_frames else images).latent_dist
        latents = posterior.mode()
        return ((latents[:, :, 0] if self.has_frames else latents).float() - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, H, W), float32, clamped to [-1, 1]."""
        latents = (latents.float() * self.std + self.mean).to(self.model.dtype)
        with torch.autocast(latents.device.type, enabled=False):
            images = self.model.decode(latents[:, :, None] if self.has_frames else latents).sample
        return (images[:, :, 0] if self.has_frames else images).float().clamp(-1, 1)


def _load(repository: str, kind: AutoencoderKind, revision: str | None, dtype: torch.dtype) -> Any:
    import diffusers  # takes seconds, and only this autoencoder needs it

    name = _CLASSES[kind]
    source: dict[str, Any] = {
        "subfolder": None if (Path(repository) / "config.json").is_file() else "vae",
        "revision": revision,
    }
    with explain_load_errors(f"an {name}", repository):
        config = getattr(diffusers, name).load_config(repository, **source)
    stored_name = config.get("_class_name")
    if stored_name != name:
        raise RunError(f"{repository}: contains an {stored_name}, but kind {kind} needs an {name}")
    with explain_load_errors(f"an {name}", repository):
        model, report = getattr(diffusers, name).from_pretrained(
            repository,
            **source,
            torch_dtype=dtype,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    require_complete(name, repository, report["missing_keys"])
    return model
