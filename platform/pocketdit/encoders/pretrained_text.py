"""The paper's text encoders (Sec. 4.1), TinyCLIP and Gemma 3, loaded with transformers."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from typing_extensions import override

from pocketdit.bounds import Tokens
from pocketdit.encoders.checkpoints import explain_load_errors, local_folder, require_complete
from pocketdit.encoders.contract import FrozenModule, Reading, TextTokens
from pocketdit.encoders.hidden_states import last_hidden_states
from pocketdit.encoders.outlines import Outline, clip_outline, gemma_outline
from pocketdit.encoders.portable import LastHiddenStates, PortableText
from pocketdit.errors import ConfigError, RunError

DType = Literal["float32", "bfloat16"]


class _PretrainedEncoder(FrozenModule):
    """A tokenizer and a transformer whose last hidden states are the embeddings."""

    weight_sources = ("repository", "revision")

    def __init__(self, tokenizer: Any, model: Any, repository: str, max_tokens: int) -> None:
        super().__init__()
        limit = int(model.config.max_position_embeddings)
        # If the start and end tokens do not fit, the tokenizers library does not truncate captions at all.
        least = max(1, tokenizer.num_special_tokens_to_add())
        if not least <= max_tokens <= limit:
            raise ConfigError(f"max_tokens: must be from {least} to {limit} for {repository}, not {max_tokens}")
        self.tokenizer = tokenizer
        self.model = model
        self.width = int(model.config.hidden_size)
        self.max_tokens = max_tokens
        self.freeze()

    @classmethod
    @override
    def weights_folder(cls, init_args: Mapping[str, Any]) -> Path | None:
        return local_folder(init_args["repository"], init_args.get("revision"))

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """Return what the encoder sees of each caption. A part for which the tokenizer has no token is unknown."""
        batch = self.tokenizer(list(captions), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        room = self.max_tokens - self.tokenizer.num_special_tokens_to_add()
        readings = []
        for caption, ids, spans in zip(captions, batch.input_ids, batch.offset_mapping, strict=True):
            pairs = zip(ids, spans, strict=True)
            unknown = (caption[start:end] for token, (start, end) in pairs if token == self.tokenizer.unk_token_id)
            readings.append(Reading(len(ids), min(len(ids), room), tuple(dict.fromkeys(unknown))))
        return readings

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to float32 embeddings (B, max_tokens, width) that are zero where the mask is False.

        The tokenizer's start and end tokens are visible, except that a blank caption has no visible tokens.
        """
        return last_hidden_states(self.tokenizer, self.model, captions, self.max_tokens, self.model.device)


class ClipTextEncoder(_PretrainedEncoder):
    """The text model of a CLIP checkpoint, including its final LayerNorm.

    Args:
        repository: A folder, or the name of a Hugging Face Hub repository such as
            wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M. It must contain a full CLIP model or only the text model, in
            the safetensors format.
        max_tokens: Number of tokens to which captions are padded or truncated.
        revision: Revision of the repository on the Hub.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is larger than the number of positions in the model, or too small for the start and
            end tokens.
        RunError: The checkpoint is missing, incomplete, or not a CLIP model.
    """

    def __init__(
        self, repository: str, max_tokens: Tokens = 77, revision: str | None = None, dtype: DType = "float32"
    ) -> None:
        from transformers import CLIPTextModel

        description = "a CLIP text encoder"
        tokenizer = _load_tokenizer(repository, revision, description, ("clip", "clip_text_model"))
        model = _load_model(CLIPTextModel, repository, revision, description, dtype)
        super().__init__(tokenizer, model, repository, max_tokens)

    def portable(self) -> PortableText:
        """Return the tokenizer with its file, and a graph that takes token IDs."""
        tokenizer = {"kind": "clip", "file": "tokenizer.json", "pad": self.tokenizer.pad_token_id}
        files = {"tokenizer.json": self.tokenizer.backend_tokenizer.to_str().encode()}
        ids = torch.full((1, self.max_tokens), int(self.tokenizer.eos_token_id), dtype=torch.int32)
        mask = (torch.arange(self.max_tokens)[None] < self.max_tokens // 2).float()
        graph = LastHiddenStates(copy.deepcopy(self.model).float())  # copied first, because float() works in place
        return PortableText(tokenizer, graph, {"ids": ids, "mask": mask}, files)

    @classmethod
    def outline(
        cls,
        device: torch.device,
        repository: str,
        max_tokens: int = 77,
        revision: str | None = None,
        dtype: DType = "float32",
    ) -> Outline | None:
        """Return the text model without its weights, or None if its size is not known."""
        return clip_outline(repository, max_tokens, getattr(torch, dtype), device)


class Gemma3TextEncoder(_PretrainedEncoder):
    """The language model of a Gemma 3 checkpoint, including its final RMSNorm.

    Args:
        repository: A folder, or the name of a Hugging Face Hub repository such as google/gemma-3-4b-it, whose
            license must first be accepted on the Hub. It must contain a Gemma 3 model in the safetensors format. If the
            model has a vision tower, it is discarded.
        max_tokens: Number of tokens to which captions are padded or truncated.
        revision: Revision of the repository on the Hub.
        dtype: Precision of the weights and the computation. The embeddings are always float32.

    Raises:
        ConfigError: ``max_tokens`` is larger than the number of positions in the model.
        RunError: The checkpoint is missing, incomplete, or not a Gemma 3 model.
    """

    def __init__(
        self, repository: str, max_tokens: Tokens = 256, revision: str | None = None, dtype: DType = "bfloat16"
    ) -> None:
        from transformers import AutoModel

        description = "a Gemma 3 language model"
        tokenizer = _load_tokenizer(repository, revision, description, ("gemma3", "gemma3_text"))
        model = _load_model(AutoModel, repository, revision, description, dtype)
        super().__init__(tokenizer, getattr(model, "language_model", model), repository, max_tokens)

    @classmethod
    def outline(
        cls,
        device: torch.device,
        repository: str,
        max_tokens: int = 256,
        revision: str | None = None,
        dtype: DType = "bfloat16",
    ) -> Outline | None:
        """Return the language model without its weights, or None if its size is not known."""
        return gemma_outline(repository, max_tokens, getattr(torch, dtype), device)


def _load_tokenizer(repository: str, revision: str | None, description: str, kinds: tuple[str, ...]) -> Any:
    """Load the tokenizer after checking that the checkpoint's model type is one of ``kinds``."""
    from transformers import AutoConfig, AutoTokenizer

    with explain_load_errors(description, repository):
        kind = AutoConfig.from_pretrained(repository, revision=revision).model_type
    if kind not in kinds:
        raise RunError(f"{repository}: contains a model of type {kind}, not {description} ({' or '.join(kinds)})")
    with explain_load_errors(f"the tokenizer of {description}", repository):
        tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision, padding_side="right")
    # If tokenizer files are missing, transformers may build a tokenizer that has only special tokens.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise RunError(f"{repository}: the tokenizer has no vocabulary; add the missing tokenizer.json")
    return tokenizer


def _load_model(loader: Any, repository: str, revision: str | None, description: str, dtype: DType) -> Any:
    with explain_load_errors(description, repository):
        model, report = loader.from_pretrained(
            repository,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
        )
    require_complete(description, repository, report["missing_keys"])
    return model
