"""The published autoencoders of Flux and Qwen-Image, by way of diffusers."""

from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from pocketdit.encoders.checkpoints import loading, require_complete
from pocketdit.encoders.contract import Frozen
from pocketdit.errors import RunError

Kind = Literal["flux", "qwen_image"]
_CLASSES: dict[Kind, str] = {"flux": "AutoencoderKL", "qwen_image": "AutoencoderKLQwenImage"}


class DiffusersAutoencoder(Frozen):
    """A variational autoencoder; latents are the mode of its posterior, normalised as its makers do.

    ``repository``: a folder (of the autoencoder, or of a pipeline with the autoencoder in ``vae/``), or the
    name of a pipeline on the Hugging Face hub, such as black-forest-labs/FLUX.1-dev or Qwen/Qwen-Image; the
    weights are in safetensors. ``revision``: of the hub's repository. ``dtype``: of weights and arithmetic;
    the results are float32 either way.

    The mode rather than a sample: the posterior is narrow, and a picture has one latent, which can be stored.
    Normalisation, z' = (z - mean) / std, is read from the checkpoint: one shift and 1 / scaling for Flux
    (0.1159 and 1 / 0.3611), a mean and std of every channel for Qwen-Image.

    Raises:
        RunError: the checkpoint is missing, incomplete, or of another kind.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        repository: str,
        kind: Kind,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        # A video autoencoder: an image is a film of one frame.
        self.has_frames = kind == "qwen_image"
        self.model = _load(repository, kind, revision, getattr(torch, dtype))
        config = self.model.config
        match kind:
            case "flux":
                if config.shift_factor is None:
                    raise RunError(f"{repository}: not the autoencoder of Flux: its config has no shift_factor")
                self.channels = int(config.latent_channels)
                self.factor = 2 ** (len(config.block_out_channels) - 1)
                mean, std = [config.shift_factor], [1 / config.scaling_factor]
            case "qwen_image":
                self.channels = int(config.z_dim)
                self.factor = 2 ** len(config.temperal_downsample)
                mean, std = config.latents_mean, config.latents_std
            case _:
                assert_never(kind)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], sides multiples of ``factor`` -> latents (B, C, h, w), float32."""
        if images.shape[-2] % self.factor or images.shape[-1] % self.factor:
            raise ValueError(f"image sides must be multiples of {self.factor}, not {tuple(images.shape[-2:])}")
        images = images.to(self.model.dtype)
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.model.encode(images[:, :, None] if self.has_frames else images).latent_dist
        latents = posterior.mode()
        return ((latents[:, :, 0] if self.has_frames else latents).float() - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W), float32, clamped to [-1, 1]."""
        latents = (latents.float() * self.std + self.mean).to(self.model.dtype)
        with torch.autocast(latents.device.type, enabled=False):
            images = self.model.decode(latents[:, :, None] if self.has_frames else latents).sample
        return (images[:, :, 0] if self.has_frames else images).float().clamp(-1, 1)


def _load(repository: str, kind: Kind, revision: str | None, dtype: torch.dtype) -> Any:
    import diffusers  # takes seconds, and only this autoencoder needs it

    name = _CLASSES[kind]
    source: dict[str, Any] = {
        "subfolder": None if (Path(repository) / "config.json").is_file() else "vae",
        "revision": revision,
    }
    with loading(f"an {name}", repository):
        stored = getattr(diffusers, name).load_config(repository, **source)
    found = stored.get("_class_name")
    if found != name:
        raise RunError(f"{repository}: holds an {found}, but kind {kind} wants an {name}")
    with loading(f"an {name}", repository):
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
