"""The weight map: one to one, and what a palette holds passes unchanged."""

import torch

from pocketdit.mobile.dit import build_mobile
from pocketdit.mobile.weights import mobile_name, mobile_weights, training_names
from tests.mobile.test_dit import PRECONDITIONED, THREE, network


def test_every_weight_has_one_name_in_either_form() -> None:
    full = network(PRECONDITIONED, 0.5)
    weights = full.state_dict()
    names = training_names(weights)
    assert len(names) == len(weights) and set(names.values()) == set(weights)
    form, projection = build_mobile(full, (8, 8))
    expected = {*form.state_dict(), *(f"text.{name}" for name in projection.state_dict())}
    assert set(names) == expected == set(mobile_weights(weights, full.spec))


def test_matrices_keep_their_values() -> None:
    full = network(THREE)
    weights = full.state_dict()
    mobile = mobile_weights(weights, full.spec)
    for name, module in full.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert torch.equal(mobile[mobile_name(f"{name}.weight")].flatten(), module.weight.flatten()), name


def test_the_map_changes_nothing_that_it_is_given() -> None:
    weights = network(THREE).state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    mobile_weights(weights, network(THREE).spec)
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_names_that_carry_a_width_lose_it() -> None:
    assert mobile_name("time.96.embed.0.weight") == "time.embed.0.weight"
    assert mobile_name("stages.0.blocks.1.tables.96.offsets") == "stages.0.blocks.1.table"
    assert mobile_name("final_tables.96.offsets") == "final_table"
