"""Draw an image with a bundle alone, without the run, its network or its encoders.

An app performs the same steps (docs/apps.md): tokenize the prompt, run the text encoders and the text projection, draw
noise, take the sampling steps, and decode the latents.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.diffusion.portable_noise import portable_noise
from pocketdit.diffusion.samplers import SAMPLERS
from pocketdit.errors import ConfigError
from pocketdit.export.app.bundle import Bundle
from pocketdit.export.app.runtimes import Runtime
from pocketdit.export.app.tokenizers import tokenize
from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.kept_lora import LORA_SCALE
from pocketdit.images import require_finite, to_uint8


def require_drawable(bundle: Bundle) -> None:
    """Check that a bundle contains everything that is needed to draw an image.

    Raises:
        ConfigError: A text encoder or the decoder is not in the bundle.
    """
    for position, encoder in enumerate(bundle.manifest["text"]["encoders"]):
        if encoder["package"] is None:
            raise ConfigError(
                f"{bundle.folder}: text encoder {position} ({encoder['class_path']}) is not in the bundle, so no "
                "image can be drawn; export again with only the other text encoders, for example text_encoders=[0]"
            )
    if DECODER not in bundle.manifest["packages"]:
        raise ConfigError(
            f"{bundle.folder}: the bundle has no decoder, so no image can be drawn; export it with decoder=RUN"
        )


def draw(
    bundle: Bundle, run: Runtime, prompt: str, seed: int, times: Sequence[float], lora_scale: float = 1.0
) -> Tensor:
    """Draw an image, and return it as a uint8 tensor (3, H, W).

    Args:
        bundle: A bundle that contains all parts (see ``require_drawable``).
        run: Function that executes the packages of the bundle.
        prompt: The prompt. With an empty prompt, the image is drawn without text conditioning.
        seed: Seed of the noise, from 0 to 2^64 - 1.
        times: Sampling times from 1 to 0.
        lora_scale: Strength of a LoRA that the bundle keeps separate, if it has one.

    Raises:
        RunError: The image contains NaN or infinity.
    """
    return decode(bundle, run, draw_latents(bundle, run, prompt, seed, times, lora_scale))


def draw_latents(
    bundle: Bundle, run: Runtime, prompt: str, seed: int, times: Sequence[float], lora_scale: float = 1.0
) -> Tensor:
    """Draw an image like ``draw``, but return its latents (1, C, h, w) without decoding them."""
    sampling: dict[str, Any] = bundle.manifest["sampling"]
    guidance = float(sampling["guidance"])
    text = embed(bundle, run, prompt)
    rows = [text] if guidance == 1 else [text, hidden(text)]
    batch, *shape = bundle.shape(TRANSFORMER, "latents")
    # Each group of rows requires one evaluation. A group that is smaller than the batch is padded with its last row.
    groups = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    projected = [run(TEXT_PROJECTION, stack(group, batch)) for group in groups]
    lora = {LORA_SCALE: torch.tensor([lora_scale])} if has_separate_lora(bundle) else {}

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        latents = {"latents": x.expand(batch, -1, -1, -1).contiguous(), "time": time.expand(batch).contiguous()}
        outputs = [run(TRANSFORMER, latents | text | lora)["velocity"] for text in projected]
        predicted = torch.cat([v[: len(group)] for v, group in zip(outputs, groups, strict=True)])
        if guidance == 1:
            return predicted
        with_text, without_text = predicted.chunk(2)
        return without_text + guidance * (with_text - without_text)

    noise = torch.from_numpy(portable_noise(seed, tuple(shape)))[None]
    return SAMPLERS[sampling["sampler"]](velocity, noise, times)


def has_separate_lora(bundle: Bundle) -> bool:
    """Return whether a bundle keeps a LoRA separate, so that its strength is an input of the transformer."""
    return LORA_SCALE in bundle.manifest["packages"][TRANSFORMER]["inputs"]


def embed(bundle: Bundle, run: Runtime, prompt: str) -> dict[str, Tensor]:
    """Run the text encoders, and return the text projection's inputs: embeddings and masks of batch size 1."""
    inputs: dict[str, Tensor] = {}
    for position, encoder in enumerate(bundle.manifest["text"]["encoders"]):
        tokens = tokenize(prompt, encoder, bundle.folder)
        inputs[f"embeddings_{position}"] = run(encoder["package"], tokens)["embeddings"]
        inputs[f"mask_{position}"] = tokens["mask"]
    return inputs


def hidden(text: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the text inputs with all tokens hidden, as for an empty prompt."""
    return {name: torch.zeros_like(value) if name.startswith("mask") else value for name, value in text.items()}


def stack(rows: Sequence[dict[str, Tensor]], batch: int) -> dict[str, Tensor]:
    """Stack rows of batch size 1 into a batch of size ``batch``. The last row is repeated to fill the batch."""
    repeated = [*rows, *[rows[-1]] * (batch - len(rows))]
    return {name: torch.cat([row[name] for row in repeated]) for name in rows[0]}


def decode(bundle: Bundle, run: Runtime, latents: Tensor) -> Tensor:
    """Decode latents (1, C, h, w) to an image, a uint8 tensor (3, H, W)."""
    image = run(DECODER, {"latents": latents})["image"]
    return to_uint8(require_finite(image, bundle.folder.name))[0]
