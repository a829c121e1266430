"""Qwen3 as the text encoder of Z-Image and FLUX.2 [klein], using transformers."""

from collections.abc import Sequence
from typing import Literal

import torch
from typing_extensions import override

from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.errors import RunError
from pocketdit.teachers.text_encoder import (
    DEFAULT_FOLDER,
    TeacherTextEncoder,
    load_language_model,
    load_tokenizer,
    require_length,
)
from pocketdit.teachers.text_outlines import QWEN3, language_model_outline

MAX_TOKENS = 512
TEXT_ENCODER = "a Qwen3 text encoder"


class Qwen3TextEncoder(TeacherTextEncoder):
    """Hidden states of some layers of Qwen3. The caption is the user's message in Qwen3's chat template.

    Args:
        repository: See ``DiffusersTeacher``.
        revision: Revision of the repository on the Hub.
        layers: Indices of the hidden states to concatenate. 0 is the token embedding, and -1 is the output of the
            model.
        thinking: Whether the template enables thinking. Otherwise, it contains an empty thinking block.
        padded: Whether the embeddings include the padding up to ``max_tokens``, which the transformer does not mask.
        max_tokens: Maximum number of tokens of a caption with its template, up to 512. Longer captions are truncated.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: The checkpoint is missing, incomplete, or of the wrong kind, or has no chat template.
    """

    def __init__(
        self,
        repository: str,
        layers: Sequence[int],
        thinking: bool,
        padded: bool,
        revision: str | None = None,
        max_tokens: int = MAX_TOKENS,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        require_length(max_tokens, MAX_TOKENS, "Qwen3")
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = load_tokenizer(AutoTokenizer, TEXT_ENCODER, ("qwen3",), repository, revision)
        if not self.tokenizer.chat_template:
            raise RunError(f"{repository}: the tokenizer has no chat template; download it again")
        self.model = load_language_model(
            AutoModel, TEXT_ENCODER, repository, revision, DEFAULT_FOLDER, getattr(torch, dtype)
        )
        self.max_tokens = max_tokens
        self.width = int(self.model.config.hidden_size) * len(layers)
        self._hidden_states, self._thinking, self._padded = tuple(layers), thinking, padded
        if max(layers) > self.model.config.num_hidden_layers:
            raise RunError(f"{repository}: the text encoder has only {self.model.config.num_hidden_layers} layers")
        self.freeze()

    @classmethod
    def outline(
        cls, device: torch.device, tokens: int, repository: str, padded: bool, max_tokens: int, dtype: str, **_: object
    ) -> Outline | None:
        """Return the language model without its weights, or None if its size is not known."""
        length = max_tokens if padded else min(tokens, max_tokens)
        return language_model_outline("qwen3", QWEN3, repository, length, getattr(torch, dtype), device)

    @override
    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, L, width) on the device of the weights.

        L is ``max_tokens`` if the captions are padded, and the length of the longest caption otherwise.
        """
        texts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": caption if caption.strip() else ""}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=self._thinking,
            )
            for caption in captions
        ]
        # Padding that the transformer sees must be on the same side as in the pipeline. Masked padding on the right has
        # no effect, because attention is causal.
        batch = self.tokenizer(
            texts,
            padding="max_length" if self._padded else True,
            padding_side=self.tokenizer.padding_side if self._padded else "right",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                output_hidden_states=True,
                use_cache=False,
            )
            embeddings = torch.cat([output.hidden_states[i] for i in self._hidden_states], dim=-1).float()
        mask = batch.attention_mask.bool()
        if self._padded:
            return TextTokens(embeddings, torch.ones_like(mask))
        return TextTokens(embeddings.masked_fill(~mask[..., None], 0), mask)
