"""The published autoencoders of FLUX, Qwen-Image and Stable Diffusion 3, loaded with diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.encoders.checkpoints import explain_load_errors, local_folder, require_complete
from pocketdit.encoders.contract import FrozenModule
from pocketdit.encoders.normalized_latents import decode_normalized, encode_normalized, has_batch_norm
from pocketdit.encoders.outlines import AUTOENCODER_CLASSES, Outline, autoencoder_outline
from pocketdit.errors import RunError

AutoencoderKind = Literal["flux", "flux2", "qwen_image", "sd3"]
# Scaling factors of the two kinds that have the same class in diffusers. They tell the two kinds apart.
_SCALING_FACTORS = {"flux": 0.3611, "sd3": 1.5305}


class DiffusersAutoencoder(FrozenModule):
    """A variational autoencoder whose latents are the mode of the posterior, normalized as in the original model.

    The mode is used instead of a random draw because the posterior is narrow. The latents of an image are then always
    the same and can be stored. The normalization is described in ``normalized_latents.py``.

    Args:
        repository: A folder that contains the autoencoder, or a pipeline with the autoencoder in ``vae/``.
            Alternatively, the name of a pipeline on the Hugging Face Hub, such as black-forest-labs/FLUX.1-schnell or
            Qwen/Qwen-Image. The weights must be in the safetensors format.
        kind: The family of the latents: "flux" (FLUX.1, Z-Image), "flux2" (FLUX.2), "qwen_image" (Qwen-Image, Krea 2)
            or "sd3" (Stable Diffusion 3 and 3.5).
        revision: Revision of the repository on the Hub.
        dtype: Precision of the weights and the computation. The results are always float32.

    Raises:
        RunError: The checkpoint is missing, incomplete, or of the wrong kind, or its downsampling factor is not 8.
    """

    factor: int = 8
    weight_sources = ("repository", "revision")

    def __init__(
        self,
        repository: str,
        kind: AutoencoderKind,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        self.model = _load(repository, kind, revision, getattr(torch, dtype))
        config = self.model.config
        match kind:
            case "flux" | "sd3":
                if config.shift_factor is None:
                    raise RunError(f"{repository}: not {kind}'s autoencoder: its config has no shift_factor")
                if config.scaling_factor != _SCALING_FACTORS[kind]:
                    raise RunError(
                        f"{repository}: not {kind}'s autoencoder: its scaling factor is {config.scaling_factor}, not "
                        f"{_SCALING_FACTORS[kind]}; set another kind"
                    )
                self.channels = int(config.latent_channels)
                factor = 2 ** (len(config.block_out_channels) - 1)
            case "flux2":
                self.channels = int(config.latent_channels)
                factor = 2 ** (len(config.block_out_channels) - 1)
            case "qwen_image":
                self.channels = int(config.z_dim)
                factor = 2 ** len(config.temperal_downsample)
            case _:
                assert_never(kind)
        if factor != self.factor:
            raise RunError(
                f"{repository}: downsamples images by a factor of {factor}, not {self.factor}; "
                "use one of the published autoencoders"
            )
        self.freeze()

    @classmethod
    def outline(
        cls,
        device: torch.device,
        repository: str,
        kind: AutoencoderKind,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> Outline | None:
        """Return the autoencoder without its weights, or None if its size is not known."""
        return autoencoder_outline(repository, kind, getattr(torch, dtype), device)

    @classmethod
    @override
    def weights_folder(cls, init_args: Mapping[str, Any]) -> Path | None:
        folder = local_folder(init_args["repository"], init_args.get("revision"))
        return None if folder is None else folder / (_subfolder(folder) or "")

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to float32 latents (B, C, h, w).

        H and W must be multiples of ``factor``, or of ``2 * factor`` for FLUX.2, which normalizes 2x2 patches.
        """
        multiple = 2 * self.factor if has_batch_norm(self.model) else self.factor
        if images.shape[-2] % multiple or images.shape[-1] % multiple:
            raise ValueError(f"image sides must be multiples of {multiple}, not {tuple(images.shape[-2:])}")
        return encode_normalized(self.model, images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to float32 images (B, 3, H, W), clamped to [-1, 1]."""
        return decode_normalized(self.model, latents)


def _subfolder(repository: Path) -> str | None:
    """Return the folder of the autoencoder in a repository, or None if the repository contains only the autoencoder."""
    return None if (repository / "config.json").is_file() else "vae"


def _load(repository: str, kind: AutoencoderKind, revision: str | None, dtype: torch.dtype) -> Any:
    import diffusers  # this import takes seconds and is needed only here

    name = AUTOENCODER_CLASSES[kind]
    source: dict[str, Any] = {
        "subfolder": _subfolder(Path(repository)),
        "revision": revision,
    }
    with explain_load_errors(f"an {name}", repository):
        config = getattr(diffusers, name).load_config(repository, **source)
    stored_name = config.get("_class_name")
    if stored_name != name:
        raise RunError(f"{repository}: contains {stored_name}, but kind {kind} requires {name}")
    with explain_load_errors(f"an {name}", repository):
        model, report = getattr(diffusers, name).from_pretrained(
            repository,
            **source,
            torch_dtype=dtype,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    require_complete(f"an {name}", repository, report["missing_keys"])
    return model
