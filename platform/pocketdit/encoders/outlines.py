"""Published networks without their weights, for cost estimates that download nothing.

The class of a frozen network may define ``outline``, which takes a device and the arguments of the constructor and
returns an ``Outline``. The numbers of layers and channels are read from ``config.json`` if the repository is a folder,
and otherwise from the constants below, which include every repository in ``experiments/paper``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn


class Outline(NamedTuple):
    """A frozen network without its published weights.

    Attributes:
        network: The network.
        run: Function that runs the network on one batch. Its arguments depend on the kind of network.
    """

    network: nn.Module
    run: Callable[..., object]


# From the config.json of each repository.
CLIP_TEXT: dict[str, dict[str, Any]] = {
    "wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M": {
        "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8,
    },
    "openai/clip-vit-large-patch14": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    },
}  # fmt: skip
GEMMA: dict[str, dict[str, Any]] = {
    "google/gemma-3-4b-it": {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
    },
}  # fmt: skip
FLUX: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "black-forest-labs/FLUX.1-dev": FLUX,
    "black-forest-labs/FLUX.1-schnell": FLUX,
    "Tongyi-MAI/Z-Image": FLUX,
    "Tongyi-MAI/Z-Image-Turbo": FLUX,
    "stabilityai/stable-diffusion-3.5-medium": FLUX,
    "black-forest-labs/FLUX.2-klein-base-4B": {},  # the defaults of diffusers
    "black-forest-labs/FLUX.2-klein-4B": {},
    "Qwen/Qwen-Image": {},
}
AUTOENCODER_CLASSES = {
    "flux": "AutoencoderKL",
    "flux2": "AutoencoderKLFlux2",
    "qwen_image": "AutoencoderKLQwenImage",
    "sd3": "AutoencoderKL",
}


def clip_outline(repository: str, tokens: int, dtype: torch.dtype, device: torch.device) -> Outline | None:
    """Return the outline of a CLIP text model. ``run`` takes the batch size."""
    config = text_config(repository, CLIP_TEXT)
    if config is None:
        return None
    from transformers import CLIPTextConfig

    return clip_text_outline(CLIPTextConfig(**config), tokens, dtype, device)


def clip_text_outline(
    settings: Any, tokens: int, dtype: torch.dtype, device: torch.device, projected: bool = False
) -> Outline:
    """Return the outline of the CLIP text model with these settings. ``run`` takes the batch size.

    Args:
        settings: The ``CLIPTextConfig`` of the model.
        tokens: Number of tokens of each caption.
        dtype: Precision of the weights and the computation.
        device: Device of the network.
        projected: Whether the model includes the projection of its pooled output.
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    create = CLIPTextModelWithProjection if projected else CLIPTextModel
    with device:
        network = create(settings).to(dtype).eval()

    def run(batch: int) -> object:
        return network(input_ids=torch.zeros(batch, tokens, dtype=torch.long, device=device))

    return Outline(network, run)


def gemma_outline(repository: str, tokens: int, dtype: torch.dtype, device: torch.device) -> Outline | None:
    """Return the outline of Gemma 3's language model. ``run`` takes the batch size, and skips the embedding lookup."""
    config = text_config(repository, GEMMA)
    if config is None:
        return None
    from transformers import Gemma3TextConfig, Gemma3TextModel

    with device:
        network = Gemma3TextModel(Gemma3TextConfig(**config)).to(dtype).eval()

    def run(batch: int) -> object:
        embeddings = torch.zeros(batch, tokens, network.config.hidden_size, dtype=dtype, device=device)
        # Without masks, attention is causal. Creating masks would read values, which the meta device does not have.
        masks = dict.fromkeys(("full_attention", "sliding_attention"))
        return network(inputs_embeds=embeddings, attention_mask=masks, use_cache=False)

    return Outline(network, run)


def autoencoder_outline(repository: str, kind: str, dtype: torch.dtype, device: torch.device) -> Outline | None:
    """Return the outline of an autoencoder. ``run`` takes the batch size, height and width, and encodes images."""
    import diffusers

    folder = Path(repository) if (Path(repository) / "config.json").is_file() else Path(repository) / "vae"
    if (folder / "config.json").is_file():
        config: dict[str, Any] | None = json.loads((folder / "config.json").read_text())
    else:
        config = AUTOENCODERS.get(repository)
    if config is None:
        return None
    has_frames = kind == "qwen_image"
    loader = getattr(diffusers, AUTOENCODER_CLASSES[kind])
    with device:
        network = loader.from_config(config).to(dtype).eval()

    def run(batch: int, height: int, width: int) -> object:
        shape = (batch, 3, 1, height, width) if has_frames else (batch, 3, height, width)
        return network.encode(torch.zeros(shape, dtype=dtype, device=device)).latent_dist.mode()

    return Outline(network, run)


def text_config(repository: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the settings of a text model, or None if they are not known without a download."""
    file = Path(repository) / "config.json"
    if not file.is_file():
        return known.get(repository)
    config: dict[str, Any] = json.loads(file.read_text())
    settings: dict[str, Any] = config.get("text_config", config)
    return settings
