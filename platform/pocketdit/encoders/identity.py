"""The identity of an encoder, which consists of its class, its arguments, and its weights.

An encoded data set records the identities of its encoders, and a run compares them with its own encoders.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from pocketdit.encoders.contract import FrozenModule
from pocketdit.errors import ConfigError


def identify(encoder: object) -> dict[str, Any]:
    """Return an encoder's class, its arguments including defaults, and a hash of its weights, as JSON values."""
    arguments = encoder.init_args if isinstance(encoder, FrozenModule) else {}
    return {
        "class": _class_name(type(encoder)),
        "init_args": json.loads(json.dumps(arguments, default=str)),
        "weights": _hash_weights(encoder),
        **_identify_files(encoder),
    }


def require_same(stored: Mapping[str, Any], encoder: object, key: str = "autoencoder") -> None:
    """Check that an encoder produces the same results as the one that encoded a data set.

    Args:
        stored: The identity that the data set records. Data sets of earlier versions record only the class.
        encoder: The encoder to use with the data set.
        key: Key of the encoder in the configuration, for messages.

    Raises:
        ConfigError: The encoders differ. The message names the first difference.
    """
    ours = identify(encoder)
    stored = {**ours, **stored}
    _require_same_settings(stored, ours, _weight_sources(type(encoder)), key)
    if stored["weights"] != ours["weights"]:
        pair = [_describe_weights(identity, _weight_sources(type(encoder))) for identity in (stored, ours)]
        raise _mismatch(key, *pair)


def is_same_unloaded(
    stored: Mapping[str, Any], cls: type, init_args: Mapping[str, Any], key: str = "autoencoder"
) -> bool:
    """Compare an encoder with the encoder that encoded a data set, without loading any weights.

    Args:
        stored: The identity that the data set records.
        cls: Class of the encoder to use with the data set.
        init_args: Arguments for the constructor of ``cls``.
        key: See ``require_same``.

    Returns:
        True if both encoders have the same weights files or, if there are no such files on this machine, the same
        source of weights. False if the weights must be loaded to compare them.

    Raises:
        ConfigError: The classes or the arguments differ.
    """
    sources = _weight_sources(cls)
    arguments = inspect.signature(cls).bind_partial(**init_args)
    arguments.apply_defaults()
    ours = {
        "class": _class_name(cls),
        "init_args": json.loads(json.dumps(dict(arguments.arguments), default=str)),
    }
    stored = {**ours, **stored}
    _require_same_settings(stored, ours, sources, key)
    if not issubclass(cls, FrozenModule) or not sources or "files" not in stored:
        return False
    folder = cls.weights_folder(init_args)
    if folder is not None:
        return bool(stored["files"] == _hash_files(folder))
    return all(stored["init_args"].get(name) == ours["init_args"].get(name) for name in sources)


def _identify_files(encoder: object) -> dict[str, str]:
    """Return a hash of the files from which the weights were loaded, if there are any."""
    folder = encoder.weights_folder(encoder.init_args) if isinstance(encoder, FrozenModule) else None
    return {} if folder is None else {"files": _hash_files(folder)}


def _hash_files(folder: Path) -> str:
    """Hash all weights files in a folder together with their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _require_same_settings(
    stored: Mapping[str, Any], ours: Mapping[str, Any], sources: Sequence[str], key: str
) -> None:
    """Compare the class and the arguments, except arguments that only specify where the weights are stored."""
    if stored["class"] != ours["class"]:
        raise _mismatch(key, stored["class"], ours["class"])
    theirs, own = dict(stored["init_args"]), ours["init_args"]
    for name in dict.fromkeys([*theirs, *own]):
        if name not in sources and theirs.get(name) != own.get(name):
            raise _mismatch(f"{key}.init_args.{name}", theirs.get(name), own.get(name))


def _describe_weights(identity: Mapping[str, Any], sources: Sequence[str]) -> str:
    places = (f"{name} {identity['init_args'].get(name)}" for name in sources)
    return ", ".join([f"weights {identity['weights']}", *places])


def _mismatch(key: str, theirs: object, ours: object) -> ConfigError:
    is_autoencoder = key.partition(".")[0] == "autoencoder"
    what, encoder = ("latents", "autoencoder") if is_autoencoder else ("text embeddings", "text encoder")
    return ConfigError(
        f"{key}: the {what} of the data set were encoded with {theirs}, not with {ours}; use the same {encoder}, or "
        "encode the data set again"
    )


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _weight_sources(cls: type) -> Sequence[str]:
    return cls.weight_sources if issubclass(cls, FrozenModule) else ()


def _hash_weights(encoder: object) -> str:
    """Hash the parameters and buffers, independently of their names and their device."""
    if not isinstance(encoder, torch.nn.Module):
        return ""
    digests = []
    for tensor in chain(encoder.parameters(), encoder.buffers()):
        content = tensor.detach().cpu().contiguous().reshape(-1)
        digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(content.view(torch.uint8).numpy().data)
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]
