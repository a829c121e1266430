"""Forms of attention that are chosen by measurement during training, once for every kind of computation.

The choices belong to the run. All its processes share them, and its checkpoints store them, so that a resumed run
computes exactly what it computed before.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, get_args

from torch import distributed

from pocketdit.backbones.form_timing import fastest_form
from pocketdit.backbones.forms import ChoiceT, DtypeForm, Workload


class Store(Protocol):
    """The methods of a ``torch.distributed.Store`` by which processes share a choice."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter that all processes share, and return its new value."""
        ...

    def set(self, key: str, value: str, /) -> None:
        """Set a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """Wait until a value is set, and return it."""
        ...


def process_store() -> Store | None:
    """Return the store that the run's processes share, or None if there is only one process."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    # There is no public function that returns the store of the default process group.
    store: Store = distributed.distributed_c10d._get_default_store()
    return store


def workload_name(workload: Workload) -> str:
    """Return a string that is the same for workloads whose forms take equally long."""
    dtype = str(workload.dtype).removeprefix("torch.")
    gradient = "with gradient" if workload.gradient else "without gradient"
    heads = f"{workload.heads}/{workload.groups} heads of {workload.channels}"
    name = f"{workload.device.type} {dtype} {gradient}: batch {workload.batch}, {heads}, "
    name += f"{workload.queries} queries, {workload.keys} keys"
    if workload.blocks:
        name += f" in {workload.blocks} blocks, radius {workload.radius}"
    return name + (", masked" if workload.hidden_keys else "")


def shared_choice(store: Store, name: str, measure: Callable[[], str]) -> str:
    """Return the choice of the first process that needs it. Other processes wait for this choice."""
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
    """Chooses the fastest form of a workload at its first use, and the same form from then on.

    The dtype of attention is not chosen by speed, because it changes the results.

    Attributes:
        chosen: The name of the chosen form, by workload.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}

    def __call__(self, workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
        """Return one of the forms, which are timed if this workload is new."""
        if len(forms) == 1 or set(forms) & set(get_args(DtypeForm)):
            return forms[0]
        by_name: Mapping[str, ChoiceT] = {form: form for form in forms}
        name = workload_name(workload)
        # A resumed run may lack a form, if it now runs on another device.
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
        """Restore the choices."""
        self.chosen = dict(state)
