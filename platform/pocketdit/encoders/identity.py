"""What decides the latents of an autoencoder: its class, its arguments, and its weights.

A data set of latents records this, and a run compares it with its own autoencoder.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch

from pocketdit.encoders.contract import Autoencoder, FrozenModule
from pocketdit.errors import ConfigError


def identify(autoencoder: Autoencoder) -> dict[str, Any]:
    """Return the class, the arguments including defaults, and a hash of the weights, in a form that JSON preserves."""
    arguments = autoencoder.init_args if isinstance(autoencoder, FrozenModule) else {}
    return {
        "class": f"{type(autoencoder).__module__}.{type(autoencoder).__qualname__}",
        "init_args": json.loads(json.dumps(arguments, default=str)),
        "weights": _hash_weights(autoencoder),
    }


def require_same(stored: Mapping[str, Any], autoencoder: Autoencoder) -> None:
    """Check that an autoencoder encodes as the one that encoded a data set of latents.

    Args:
        stored: The identity that the data set records. Data sets of earlier versions record only the class.
        autoencoder: The autoencoder to use with the latents.

    Raises:
        ConfigError: The autoencoders differ. The message names the first difference.
    """
    ours = identify(autoencoder)
    stored = {**ours, **stored}
    if stored["class"] != ours["class"]:
        raise _mismatch("autoencoder", stored["class"], ours["class"])
    # The weights decide the latents, and not the place from which they were loaded.
    places = autoencoder.weight_sources if isinstance(autoencoder, FrozenModule) else ()
    theirs, arguments = dict(stored["init_args"]), ours["init_args"]
    for name in dict.fromkeys([*theirs, *arguments]):
        if name not in places and theirs.get(name) != arguments.get(name):
            raise _mismatch(f"autoencoder.init_args.{name}", theirs.get(name), arguments.get(name))
    if stored["weights"] != ours["weights"]:
        pair = ((stored["weights"], theirs), (ours["weights"], arguments))
        raise _mismatch(
            "autoencoder",
            *(", ".join([f"weights {hashed}", *(f"{name} {at.get(name)}" for name in places)]) for hashed, at in pair),
        )


def _mismatch(key: str, theirs: object, ours: object) -> ConfigError:
    return ConfigError(
        f"{key}: is {ours}, but the latents of the data set were encoded with {theirs}; use the same autoencoder, or "
        "build the data set again"
    )


def _hash_weights(autoencoder: Autoencoder) -> str:
    """Hash the parameters and buffers, independently of their names and their device."""
    if not isinstance(autoencoder, torch.nn.Module):
        return ""
    digests = []
    for tensor in chain(autoencoder.parameters(), autoencoder.buffers()):
        content = tensor.detach().cpu().contiguous().reshape(-1)
        digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(content.view(torch.uint8).numpy().data)
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]
