"""The text encoder of Qwen-Image, using transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from typing_extensions import override

from pocketdit.encoders.checkpoints import explain_load_errors, local_folder, require_complete
from pocketdit.encoders.contract import FrozenModule, TextTokens
from pocketdit.errors import ConfigError, RunError

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
# prompt. Inside the template, a space does not give the same tokens as an empty string.
EMPTY_PROMPT = " "
TEXT_ENCODER = "a Qwen2.5-VL text encoder"


class QwenImageTextEncoder(FrozenModule):
    """The language model of Qwen2.5-VL with Qwen-Image's template.

    Unlike with a student's text encoders, the tokens of a blank caption are visible.

    Args:
        repository: See ``QwenImageTeacher``.
        revision: Revision of the repository on the hub.
        max_tokens: Maximum length of a caption and the end of the template, up to 1024. Longer captions are truncated.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: The checkpoint is missing, incomplete, or of the wrong kind.
    """

    weight_sources = ("repository", "revision")

    def __init__(
        self,
        repository: str,
        revision: str | None = None,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        super().__init__()
        if not 0 < max_tokens <= MAX_TOKENS:
            raise ConfigError(f"max_tokens: must be from 1 to {MAX_TOKENS} for Qwen-Image, not {max_tokens}")
        self.max_tokens = max_tokens
        self.tokenizer = _load_tokenizer(repository, revision)
        self.model = _load_text_encoder(repository, revision, getattr(torch, dtype))
        self.width = int(self.model.config.hidden_size)
        self.freeze()

    @classmethod
    @override
    def weights_folder(cls, init_args: Mapping[str, Any]) -> Path | None:
        folder = local_folder(init_args["repository"], init_args.get("revision"))
        return None if folder is None else folder / "text_encoder"

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


def _load_text_encoder(repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    """Load the language model of Qwen2.5-VL, including its final RMSNorm, and discard the other parts."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with explain_load_errors(TEXT_ENCODER, repository):
        model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            repository,
            subfolder="text_encoder",
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    require_complete(TEXT_ENCODER, repository, report["missing_keys"])
    return model.model.language_model


def _load_tokenizer(repository: str, revision: str | None) -> Any:
    """Load the tokenizer after checking that the text encoder is a Qwen2.5-VL."""
    from transformers import AutoConfig, Qwen2Tokenizer

    with explain_load_errors(TEXT_ENCODER, repository):
        kind = AutoConfig.from_pretrained(repository, subfolder="text_encoder", revision=revision).model_type
    if kind != "qwen2_5_vl":
        raise RunError(f"{repository}: text_encoder/ contains a model of type {kind}, not {TEXT_ENCODER}")
    with explain_load_errors(f"the tokenizer of {TEXT_ENCODER}", repository):
        tokenizer = Qwen2Tokenizer.from_pretrained(
            repository, subfolder="tokenizer", revision=revision, padding_side="right", truncation_side="right"
        )
    # If tokenizer files are missing, transformers builds a tokenizer that has only special tokens.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise RunError(f"{repository}: the tokenizer has no vocabulary; add vocab.json and merges.txt to tokenizer/")
    return tokenizer
