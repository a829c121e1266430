"""Base class and loading functions for the text encoders of teachers, which are part of a pipeline's repository."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from pocketdit.encoders.checkpoints import explain_load_errors, local_folder, require_complete
from pocketdit.encoders.contract import FrozenModule, TextTokens
from pocketdit.errors import ConfigError, RunError

DEFAULT_FOLDER = "text_encoder"


class TeacherTextEncoder(FrozenModule):
    """A tokenizer and a language model.

    Unlike with a student's text encoders, the tokens of a blank caption are visible.

    Attributes:
        model: The language model.
        tokenizer: The language model's tokenizer.
        width: Size of each embedding.
        max_tokens: Maximum number of tokens of a caption.
    """

    weight_sources = ("repository", "revision")
    model: Any
    tokenizer: Any
    width: int
    max_tokens: int

    @classmethod
    @override
    def weights_folder(cls, init_args: Mapping[str, Any]) -> Path | None:
        folder = local_folder(init_args["repository"], init_args.get("revision"))
        return None if folder is None else folder / init_args.get("folder", DEFAULT_FOLDER)

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks of the language model, which FSDP2 shards one by one."""
        layers: nn.ModuleList = self.model.layers
        return layers

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions on the device of the weights."""
        raise NotImplementedError


def require_length(max_tokens: int, limit: int, name: str) -> None:
    """Raise ``ConfigError`` unless the number of tokens is from 1 to a limit."""
    if not 0 < max_tokens <= limit:
        raise ConfigError(f"max_tokens: must be from 1 to {limit} for {name}, not {max_tokens}")


def load_language_model(
    loader: Any, description: str, repository: str, revision: str | None, folder: str, dtype: torch.dtype
) -> Any:
    """Load a language model with a class of transformers.

    Raises:
        RunError: The checkpoint is missing or incomplete.
    """
    with explain_load_errors(description, repository):
        model, report = loader.from_pretrained(
            repository,
            subfolder=folder,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    require_complete(description, repository, report["missing_keys"])
    return model


def load_tokenizer(
    loader: Any,
    description: str,
    kinds: tuple[str, ...],
    repository: str,
    revision: str | None,
    folder: str = DEFAULT_FOLDER,
    **options: Any,
) -> Any:
    """Check the type of a text encoder, and load its tokenizer.

    Args:
        loader: The tokenizer's class in transformers.
        description: Description of the text encoder for messages, with an article.
        kinds: Accepted model types of the text encoder.
        repository: A folder, or the name of a repository on the Hub.
        revision: Revision of the repository on the Hub.
        folder: Folder of the text encoder. The tokenizer's folder has the same name, except that "tokenizer" replaces
            "text_encoder".
        options: Further arguments of ``from_pretrained``.

    Raises:
        RunError: The tokenizer is missing or incomplete, or the text encoder is of another type.
    """
    from transformers import AutoConfig

    tokenizer_folder = folder.replace("text_encoder", "tokenizer")
    with explain_load_errors(description, repository):
        kind = AutoConfig.from_pretrained(repository, subfolder=folder, revision=revision).model_type
    if kind not in kinds:
        raise RunError(f"{repository}: {folder}/ contains a model of type {kind}, not {description}")
    with explain_load_errors(f"the tokenizer of {description}", repository):
        tokenizer = loader.from_pretrained(repository, subfolder=tokenizer_folder, revision=revision, **options)
    # If tokenizer files are missing, transformers builds a tokenizer that has only special tokens.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise RunError(
            f"{repository}: the tokenizer has no vocabulary; add the missing files to {tokenizer_folder}/, such as "
            "vocab.json and merges.txt"
        )
    return tokenizer
