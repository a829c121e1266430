"""The columns of an index file, which record the position of each sample of a split and the size of its image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from datamodules.shards.scan import MAX_LENGTH
from datamodules.shards.schema import Kind

VERSION = 3
COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int32,
    "width": np.int32,
    "height": np.int32,
}
Columns = Mapping[str, Any]  # mapping from names to arrays


def serialize_columns(columns: Columns, description: Mapping[str, Any]) -> bytes:
    """Return the content of an index file.

    Args:
        columns: The columns.
        description: The other contents of the file, which can be serialized as JSON.
    """
    content: bytes = save(dict(columns), metadata={"index": json.dumps({"version": VERSION, **description})})
    return content


def read_columns(path: Path, kind: Kind) -> tuple[dict[str, Any], Columns] | None:
    """Read the description and the columns in an index file, without checking whether they are consistent.

    Returns:
        The description and the columns, or None if the file is missing or damaged, or was written by another version.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads((file.metadata() or {})["index"])
            if (description["version"], description["kind"]) != (VERSION, kind):
                return None
            return description, {name: file.get_tensor(name) for name in COLUMNS}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def fits(columns: Columns, shard_sizes: Sequence[int]) -> bool:
    """Return whether the columns are valid and describe samples inside shards of the given sizes."""
    if any(columns[name].dtype != dtype or columns[name].ndim != 1 for name, dtype in COLUMNS.items()):
        return False
    if len({len(column) for column in columns.values()}) > 1:
        return False
    shard, offset, length = columns["shard"], columns["offset"], columns["length"]
    if not bool((np.diff(shard) >= 0).all() and (shard >= 0).all() and (shard < len(shard_sizes)).all()):
        return False
    positive = all((columns[name] > 0).all() for name in ("length", "width", "height"))
    sizes = np.array(shard_sizes, dtype=np.int64)
    inside = (offset >= 0).all() and (offset <= sizes[shard] - length).all() if len(shard) else True
    return positive and bool(inside and (length <= MAX_LENGTH).all())
