"""The text encoder of Qwen-Image, using transformers."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from typing_extensions import override

from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.teachers.text_encoder import (
    DEFAULT_FOLDER,
    TeacherTextEncoder,
    load_language_model,
    load_tokenizer,
    require_length,
)
from pocketdit.teachers.text_outlines import QWEN_2_5_VL, language_model_outline

# As in diffusers' QwenImagePipeline, the text encoder reads the whole template, but the transformer does not get the
# first TEMPLATE_PREFIX_TOKENS tokens. It gets only the caption and the end of the template.
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
TEMPLATE_PREFIX_TOKENS = 34
MAX_TOKENS = 1024
# The pipeline has no default negative prompt. Its documentation and Qwen-Image's examples use a space as the empty
# prompt. Inside the template, a space is not tokenized like an empty string.
EMPTY_PROMPT = " "
TEXT_ENCODER = "a Qwen2.5-VL text encoder"


class QwenImageTextEncoder(TeacherTextEncoder):
    """The language model of Qwen2.5-VL with Qwen-Image's template.

    Args:
        repository: See ``DiffusersTeacher``.
        revision: Revision of the repository on the Hub.
        max_tokens: Maximum length of a caption, including the end of the template, up to 1024. Longer captions are
            truncated.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    def __init__(
        self,
        repository: str,
        revision: str | None = None,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        require_length(max_tokens, MAX_TOKENS, "Qwen-Image")
        from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

        self.max_tokens = max_tokens
        self.tokenizer = load_tokenizer(
            Qwen2Tokenizer,
            TEXT_ENCODER,
            ("qwen2_5_vl",),
            repository,
            revision,
            padding_side="right",
            truncation_side="right",
        )
        whole: Any = load_language_model(
            Qwen2_5_VLForConditionalGeneration,
            TEXT_ENCODER,
            repository,
            revision,
            DEFAULT_FOLDER,
            getattr(torch, dtype),
        )
        self.model = whole.model.language_model  # includes the final RMSNorm; the rest of the model is discarded
        self.width = int(self.model.config.hidden_size)
        self.freeze()

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, max_tokens: int, dtype: str, **_: object
    ) -> Outline | None:
        """Return the language model without its weights, or None if its size is not known."""
        length = TEMPLATE_PREFIX_TOKENS + min(tokens, max_tokens)
        return language_model_outline("qwen2_5_vl_text", QWEN_2_5_VL, repository, length, getattr(torch, dtype), device)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to the last hidden states, (B, longest caption, width), on the device of the weights."""
        # With causal attention, padding on the right has no effect, so a caption's tokens do not depend on the batch.
        batch = self.tokenizer(
            [TEMPLATE.format(caption if caption.strip() else EMPTY_PROMPT) for caption in captions],
            padding=True,
            truncation=True,
            max_length=self.max_tokens + TEMPLATE_PREFIX_TOKENS,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        mask = batch.attention_mask[:, TEMPLATE_PREFIX_TOKENS:].bool()
        embeddings = output.last_hidden_state[:, TEMPLATE_PREFIX_TOKENS:].masked_fill(~mask[..., None], 0)
        return TextTokens(embeddings.float(), mask)
