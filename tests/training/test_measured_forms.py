"""Tests for choosing between implementations (forms) of attention by measuring their speed."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from pocketdit.artifacts.run_folder import find
from pocketdit.backbones.forms import ChoiceT, Workload, dtype_forms, first_form, grouped_forms
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.measured_forms import MeasuredForms, shared_choice, shared_choices, workload_name
from tests.conftest import PRETRAIN

WORKLOAD = Workload(
    torch.device("cpu"), torch.float32, gradient=True, batch=2, heads=4, groups=2, queries=64, keys=64, channels=8
)
FORMS = grouped_forms(WORKLOAD)


def last_form(workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
    return forms[-1]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Replace the measurement with a stub that chooses the last form and records its workloads in the returned list."""
    workloads: list[Workload] = []

    def measure(workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
        workloads.append(workload)
        return last_form(workload, forms)

    monkeypatch.setattr("pocketdit.training.measured_forms.fastest_form", measure)
    return workloads


def test_every_workload_is_measured_once(measured: list[Workload]) -> None:
    choose = MeasuredForms()
    changes: list[dict[str, object]] = [
        {}, {"gradient": False}, {"batch": 3}, {"queries": 32}, {"keys": 32}, {"heads": 8}, {"groups": 1},
        {"channels": 16}, {"dtype": torch.bfloat16}, {"hidden_keys": True}, {"blocks": 4, "radius": 1},
        {"blocks": 4, "radius": 2}, {"blocks": 8, "radius": 1}, {"device": torch.device("cuda")},
    ]  # fmt: skip
    workloads = [replace(WORKLOAD, **change) for change in changes]  # type: ignore[arg-type]
    for workload in [*workloads, *workloads]:
        assert choose(workload, FORMS) == FORMS[-1]
    assert measured == workloads


def test_a_real_measurement_returns_one_of_the_forms() -> None:
    choose = MeasuredForms()
    assert choose(WORKLOAD, FORMS) in FORMS
    assert list(choose.chosen) == [workload_name(WORKLOAD)]


def test_the_dtype_is_not_chosen_by_speed(measured: list[Workload]) -> None:
    workload = replace(WORKLOAD, dtype=torch.bfloat16, gradient=False)
    assert MeasuredForms()(workload, dtype_forms(workload)) == dtype_forms(workload)[0]
    assert not measured


def test_restored_choices_are_kept(measured: list[Workload]) -> None:
    choose = MeasuredForms()
    choose.load_state_dict({workload_name(WORKLOAD): FORMS[1]})
    assert choose(WORKLOAD, FORMS) == FORMS[1]
    assert choose.state_dict() == {workload_name(WORKLOAD): FORMS[1]}
    assert not measured


def test_a_restored_form_that_does_not_exist_here_is_measured_again(measured: list[Workload]) -> None:
    choose = MeasuredForms()
    choose.load_state_dict({workload_name(WORKLOAD): "flex"})
    assert choose(WORKLOAD, FORMS) == FORMS[-1]


def test_processes_share_the_choice_of_the_first_one() -> None:
    """The second process asks for the choice while the first process is still measuring."""
    store, second_asks, results = HashStore(), threading.Event(), {}

    def measure() -> str:
        assert second_asks.wait(10)
        return "folded"

    def ask(name: str) -> None:
        results[name] = shared_choice(store, "a workload", measure)

    first = threading.Thread(target=ask, args=("first",))
    first.start()
    while store.add("attention_forms/a workload/processes", 0) == 0:
        pass
    second_asks.set()
    results["second"] = shared_choice(store, "a workload", lambda: "repeated")
    first.join(10)
    assert results == {"first": "folded", "second": "folded"}
    shared_choice(store, "another workload", lambda: "repeated")
    assert shared_choices(store) == {"a workload": "folded", "another workload": "repeated"}


def test_a_resumed_run_keeps_its_choices(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pocketdit.commands.main import main

    def losses(name: str) -> list[tuple[int, float]]:
        folder = find(tmp_path / "runs", f"elastic_pretrain/{name}")
        return read_metrics(folder.path / "metrics.jsonl")["train/loss/width_1"]

    arguments = ["run", str(PRETRAIN), *tiny, "training.attention_forms=measured", "training.precision=32-true"]
    target = "pocketdit.training.measured_forms.fastest_form"
    monkeypatch.setattr(target, last_form)
    assert main([*arguments, "training.max_steps=4", "--name", "uninterrupted"]) == 0
    assert main([*arguments, "training.max_steps=2", "--name", "resumed"]) == 0
    monkeypatch.setattr(target, first_form)
    assert main([*arguments, "training.max_steps=4", "--resume", "elastic_pretrain/resumed"]) == 0
    assert losses("resumed") == losses("uninterrupted")
    assert main([*arguments, "training.max_steps=4", "--name", "other"]) == 0
    assert losses("other") != losses("uninterrupted"), "the forms should differ in rounding"
    assert [loss for _, loss in losses("other")] == pytest.approx([loss for _, loss in losses("resumed")], rel=1e-4)
