"""CLIP as a text encoder of FLUX.1 and Stable Diffusion 3.5, using transformers."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from typing_extensions import override

from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.errors import RunError
from pocketdit.teachers.text_encoder import TeacherTextEncoder, load_language_model, load_tokenizer
from pocketdit.teachers.text_outlines import clip_outline

TEXT_ENCODER = "a CLIP text encoder"


class ClipPooledText(TeacherTextEncoder):
    """The pooled output of CLIP's text model as a single token, as FLUX.1 uses it.

    Args:
        repository: See ``DiffusersTeacher``.
        folder: Folder of the text encoder in the repository.
        revision: Revision of the repository on the Hub.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    max_tokens = 1  # number of output tokens; the tokenizer has its own limit on input tokens

    def __init__(
        self,
        repository: str,
        folder: str,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = load_tokenizer(CLIPTokenizer, TEXT_ENCODER, ("clip_text_model",), repository, revision, folder)
        self.model = load_language_model(
            CLIPTextModel, TEXT_ENCODER, repository, revision, folder, getattr(torch, dtype)
        )
        self.width = int(self.model.config.hidden_size)
        self.freeze()

    @property
    @override
    def layers(self) -> nn.ModuleList:
        return clip_layers(self)

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, folder: str, dtype: str, **_: object
    ) -> Outline | None:
        """Return the text model without its weights, or None if its size is not known."""
        return clip_outline(repository, folder, False, getattr(torch, dtype), device)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, 1, width) on the device of the weights."""
        with torch.autocast(self.model.device.type, enabled=False):
            return all_visible(self.model(clip_tokens(self, captions)).pooler_output[:, None])


class ClipTextAndPooled(TeacherTextEncoder):
    """The projected output of CLIP's text model, followed by its second-to-last hidden states, as SD 3.5 uses them.

    Args:
        repository: See ``DiffusersTeacher``.
        folder: Folder of the text encoder in the repository.
        revision: Revision of the repository on the Hub.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    def __init__(
        self,
        repository: str,
        folder: str,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        self.tokenizer = load_tokenizer(CLIPTokenizer, TEXT_ENCODER, ("clip_text_model",), repository, revision, folder)
        self.model = load_language_model(
            CLIPTextModelWithProjection, TEXT_ENCODER, repository, revision, folder, getattr(torch, dtype)
        )
        config = self.model.config
        if config.projection_dim != config.hidden_size:
            raise RunError(f"{repository}: {folder}/ is not a text encoder of SD 3.5: its projection changes the width")
        self.width = int(config.hidden_size)
        self.max_tokens = 1 + int(self.tokenizer.model_max_length)
        self.freeze()

    @property
    @override
    def layers(self) -> nn.ModuleList:
        return clip_layers(self)

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, folder: str, dtype: str, **_: object
    ) -> Outline | None:
        """Return the text model without its weights, or None if its size is not known."""
        return clip_outline(repository, folder, True, getattr(torch, dtype), device)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, 1 + tokens, width) on the device of the weights."""
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(clip_tokens(self, captions), output_hidden_states=True)
            return all_visible(torch.cat([output.text_embeds[:, None], output.hidden_states[-2]], dim=1))


def clip_tokens(encoder: TeacherTextEncoder, captions: Sequence[str]) -> torch.Tensor:
    """Return the token IDs of captions, padded to the tokenizer's limit."""
    batch = encoder.tokenizer(
        [caption if caption.strip() else "" for caption in captions],
        padding="max_length",
        truncation=True,
        max_length=encoder.tokenizer.model_max_length,
        return_tensors="pt",
    )
    tokens: torch.Tensor = batch.input_ids.to(encoder.model.device)
    return tokens


def clip_layers(encoder: TeacherTextEncoder) -> nn.ModuleList:
    """Return the blocks of a CLIP text model."""
    layers: nn.ModuleList = getattr(encoder.model, "text_model", encoder.model).encoder.layers
    return layers


def all_visible(embeddings: torch.Tensor) -> TextTokens:
    """Return embeddings as tokens that are all visible, including the padding, which these transformers do not mask."""
    return TextTokens(embeddings.float(), torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device))
