"""The text encoder of Krea 2, using transformers."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.teachers.qwen_image_text import TEMPLATE, TEMPLATE_PREFIX_TOKENS
from pocketdit.teachers.text_encoder import (
    DEFAULT_FOLDER,
    TeacherTextEncoder,
    load_language_model,
    load_tokenizer,
    require_length,
)
from pocketdit.teachers.text_outlines import QWEN3_VL, language_model_outline

MAX_TOKENS = 512
TEXT_ENCODER = "a Qwen3-VL text encoder"
# Krea 2 uses Qwen-Image's template. The end of the template is kept even if the caption is truncated.
PREFIX, SUFFIX = TEMPLATE.split("{}")
HIDDEN_STATES = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)


class Krea2TextEncoder(TeacherTextEncoder):
    """Hidden states of twelve layers of Qwen3-VL's language model, concatenated for every token.

    The pipeline inserts masked padding between the caption and the end of the template, and skips it when it numbers
    the positions. Padding at the end has the same result, because attention is causal.

    Args:
        repository: See ``DiffusersTeacher``.
        hidden_states: Indices of the hidden states to concatenate. 0 is the token embedding.
        revision: Revision of the repository on the Hub.
        max_tokens: Maximum length of a caption, including the end of the template, up to 512. Longer captions are
            truncated.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    def __init__(
        self,
        repository: str,
        hidden_states: Sequence[int] = HIDDEN_STATES,
        revision: str | None = None,
        max_tokens: int = MAX_TOKENS,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        require_length(max_tokens, MAX_TOKENS, "Krea 2")
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = load_tokenizer(AutoTokenizer, TEXT_ENCODER, ("qwen3_vl",), repository, revision)
        whole: Any = load_language_model(
            AutoModel, TEXT_ENCODER, repository, revision, DEFAULT_FOLDER, getattr(torch, dtype)
        )
        self.model = whole.language_model
        self.max_tokens = max_tokens
        self._hidden_states = tuple(hidden_states)
        self.width = int(self.model.config.hidden_size) * len(self._hidden_states)
        self.freeze()

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, max_tokens: int, dtype: str, **_: object
    ) -> Outline | None:
        """Return the language model without its weights, or None if its size is not known."""
        length = TEMPLATE_PREFIX_TOKENS + min(tokens, max_tokens)
        return language_model_outline("qwen3_vl_text", QWEN3_VL, repository, length, getattr(torch, dtype), device)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, longest caption, width) on the device of the weights."""
        end: list[int] = self.tokenizer(SUFFIX).input_ids
        limit = TEMPLATE_PREFIX_TOKENS + max(0, self.max_tokens - len(end))
        starts = self.tokenizer(
            [PREFIX + (caption if caption.strip() else "") for caption in captions], truncation=True, max_length=limit
        )
        rows = [torch.tensor(ids + end, device=self.model.device) for ids in starts.input_ids]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(
                input_ids=pad_sequence(rows, batch_first=True),
                attention_mask=mask,
                output_hidden_states=True,
                use_cache=False,
            )
            embeddings = torch.cat([output.hidden_states[i] for i in self._hidden_states], dim=-1)
        visible = mask[:, TEMPLATE_PREFIX_TOKENS:].bool()
        return TextTokens(embeddings[:, TEMPLATE_PREFIX_TOKENS:].float().masked_fill(~visible[..., None], 0), visible)
