"""Converts sharded checkpoints to the single-file form, which does not depend on the number of processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from pocketdit.errors import RunError
from pocketdit.running.disk import first_cause
from pocketdit.running.sharded import PlainValuePlanner, load_rest, require_undamaged


def read_consolidated(path: Path) -> dict[str, Any]:
    """Return a sharded checkpoint as the dictionary that a single-file checkpoint contains.

    All tensors are read into the memory of this process. A process group is not needed.

    Args:
        path: The folder of the checkpoint.

    Raises:
        RunError: A file is missing or damaged, or the folder is not a checkpoint.
    """
    require_undamaged(path)
    reader = FileSystemReader(path)
    try:
        metadata = reader.read_metadata()
        flat = {key: empty(item) for key, item in metadata.state_dict_metadata.items()}
        planner = PlainValuePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        load(flat, storage_reader=reader, planner=planner, no_dist=True)
        nested = nest({metadata.planner_data[key]: value for key, value in flat.items()})
        optimizers = [nested[name] for name in sorted(nested) if name.startswith("optimizer_")]
        return {
            "state_dict": nested["state_dict"],
            "optimizer_states": [number_parameters(state) for state in optimizers],
            **load_rest(path),
        }
    except RunError:
        raise
    except (Exception, CheckpointException) as error:  # reading a damaged checkpoint can raise any exception
        cause = first_cause(error)
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise RunError(
            f"{path} cannot be read as a sharded checkpoint ({reason}); copy the folder again or start a new run"
        ) from error


def empty(item: object) -> Tensor | None:
    """Return an uninitialized tensor if an entry in the index of shards describes a tensor, and None otherwise."""
    return torch.empty(item.size, dtype=item.properties.dtype) if isinstance(item, TensorStorageMetadata) else None


def nest(values: Mapping[tuple[str | int, ...], Any]) -> dict[str, Any]:
    """Build nested dictionaries and lists from a mapping of paths to values. Integers in paths are list indices."""
    root: dict[Any, Any] = {}
    for path, value in values.items():
        inner = root
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
    return {name: _with_lists(value) for name, value in root.items()}


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: _with_lists(item) for key, item in value.items()}
    return [items[i] for i in range(len(items))] if items and set(items) == set(range(len(items))) else items


def number_parameters(state: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an optimizer's state that uses parameter names to torch's form, which numbers the parameters."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {numbers[name]: value for name, value in state.get("state", {}).items()}, "param_groups": groups}


def name_parameters(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Convert an optimizer's state that numbers the parameters to the form that uses parameter names.

    Args:
        state: The state.
        names: Names of the optimizer's parameters, in the order of its groups.
    """
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[number]: value for number, value in state["state"].items()}, "param_groups": groups}
