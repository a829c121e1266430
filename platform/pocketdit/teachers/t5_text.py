"""T5 as a text encoder of FLUX.1 and Stable Diffusion 3.5, using transformers."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from typing_extensions import override

from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.teachers.clip_text import all_visible
from pocketdit.teachers.text_encoder import TeacherTextEncoder, load_language_model, load_tokenizer, require_length
from pocketdit.teachers.text_outlines import T5, language_model_outline

MAX_TOKENS = 512
TEXT_ENCODER = "a T5 text encoder"


class T5Text(TeacherTextEncoder):
    """The encoder of T5. As in the published pipelines, neither T5 nor the transformer masks the padding.

    Args:
        repository: See ``DiffusersTeacher``.
        folder: Folder of the text encoder in the repository.
        revision: Revision of the repository on the Hub.
        max_tokens: Number of tokens to which captions are padded or truncated, up to 512.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    def __init__(
        self,
        repository: str,
        folder: str,
        revision: str | None = None,
        max_tokens: int = 256,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        require_length(max_tokens, MAX_TOKENS, "T5")
        from transformers import AutoTokenizer, T5EncoderModel

        self.tokenizer = load_tokenizer(AutoTokenizer, TEXT_ENCODER, ("t5",), repository, revision, folder)
        self.model = load_language_model(
            T5EncoderModel, TEXT_ENCODER, repository, revision, folder, getattr(torch, dtype)
        )
        self.max_tokens = max_tokens
        self.width = int(self.model.config.d_model)
        self.freeze()

    @property
    @override
    def layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.model.encoder.block
        return layers

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, folder: str, max_tokens: int, dtype: str, **_: object
    ) -> Outline | None:
        """Return the encoder without its weights, or None if its size is not known."""
        return language_model_outline("t5", T5, repository, max_tokens, getattr(torch, dtype), device, folder)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, max_tokens, width) on the device of the weights."""
        batch = self.tokenizer(
            [caption if caption.strip() else "" for caption in captions],
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        with torch.autocast(self.model.device.type, enabled=False):
            return all_visible(self.model(batch.input_ids.to(self.model.device)).last_hidden_state)
