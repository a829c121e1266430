"""Chooses the fastest form of attention by measurement during training, once for every workload.

All processes of a run share the choices, and its checkpoints store them, so that a resumed run repeats exactly the same
computations.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, get_args

from torch import distributed

from pocketdit.backbones.form_timing import fastest_form
from pocketdit.backbones.forms import ChoiceT, DtypeForm, Workload


class Store(Protocol):
    """The methods of ``torch.distributed.Store`` with which processes share a choice."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter that all processes share, and return its new value."""
        ...

    def set(self, key: str, value: str, /) -> None:
        """Set the value of a key."""
        ...

    def get(self, key: str, /) -> bytes:
        """Wait until the value of a key is set, and return it."""
        ...


def process_store() -> Store | None:
    """Return the store that the run's processes share, or None if there is only one process."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    # There is no public function that returns the store of the default process group.
    store: Store = distributed.distributed_c10d._get_default_store()
    return store


def workload_name(workload: Workload) -> str:
    """Return a description of a workload. Workloads with the same description have equally fast forms."""
    dtype = str(workload.dtype).removeprefix("torch.")
    gradient = "with gradient" if workload.gradient else "without gradient"
    heads = f"{workload.heads}/{workload.groups} heads of {workload.channels}"
    name = f"{workload.device.type} {dtype} {gradient}: batch {workload.batch}, {heads}, "
    name += f"{workload.queries} queries, {workload.keys} keys"
    if workload.blocks:
        name += f" in {workload.blocks} blocks, radius {workload.radius}"
    return name + (", masked" if workload.hidden_keys else "")


def shared_choice(store: Store, name: str, measure: Callable[[], str]) -> str:
    """Let the first process that calls this function measure the forms, and return its choice in every process."""
    if store.add(f"attention_forms/{name}/processes", 1) == 1:
        form = measure()
        store.set(f"attention_forms/{store.add('attention_forms', 1)}", json.dumps([name, form]))
        store.set(f"attention_forms/{name}", form)
    return store.get(f"attention_forms/{name}").decode()


def shared_choices(store: Store) -> dict[str, str]:
    """Return the choices of all processes since the run was started or resumed."""
    count = store.add("attention_forms", 0)
    return dict(json.loads(store.get(f"attention_forms/{index + 1}")) for index in range(count))


class MeasuredForms:
    """Measures the forms of a workload when it first occurs, and chooses the fastest one from then on.

    The dtype of attention is not chosen by speed, because it changes the results.

    Attributes:
        chosen: Mapping from each workload's name to the name of the chosen form.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}

    def __call__(self, workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
        """Return the chosen form. The forms are timed first if this workload is new."""
        if len(forms) == 1 or set(forms) & set(get_args(DtypeForm)):
            return forms[0]
        by_name: Mapping[str, ChoiceT] = {form: form for form in forms}
        name = workload_name(workload)
        # If the run was resumed on another device, the form that was chosen earlier may not be available.
        if self.chosen.get(name) not in by_name:
            store = process_store()
            measure = partial(fastest_form, workload, forms)
            self.chosen[name] = measure() if store is None else shared_choice(store, name, measure)
        return by_name[self.chosen[name]]

    def state_dict(self) -> dict[str, str]:
        """Return the choices of all processes."""
        store = process_store()
        return dict(self.chosen) if store is None else {**self.chosen, **shared_choices(store)}

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Restore the choices from a checkpoint."""
        self.chosen = dict(state)
