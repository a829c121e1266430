"""Tests that weights are mapped one to one to the mobile form, and that the values of matrices do not change."""

import torch

from pocketdit.mobile.dit import build_mobile
from pocketdit.mobile.weights import mobile_name, mobile_weights
from tests.mobile.test_dit import PRECONDITIONED, THREE, network


def test_names_are_mapped_one_to_one() -> None:
    trained = network(PRECONDITIONED, 0.5)
    weights = trained.state_dict()
    mobile_names = {mobile_name(name) for name in weights}
    assert len(mobile_names) == len(weights)
    mobile, projection = build_mobile(trained, (8, 8))
    expected = {*mobile.state_dict(), *(f"text.{name}" for name in projection.state_dict())}
    assert mobile_names == expected == set(mobile_weights(weights, trained.spec))


def test_matrices_keep_their_values() -> None:
    trained = network(THREE)
    weights = trained.state_dict()
    mobile = mobile_weights(weights, trained.spec)
    for name, module in trained.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert torch.equal(mobile[mobile_name(f"{name}.weight")].flatten(), module.weight.flatten()), name


def test_original_weights_are_not_modified() -> None:
    weights = network(THREE).state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    mobile_weights(weights, network(THREE).spec)
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_hidden_sizes_are_removed_from_names() -> None:
    assert mobile_name("time.96.embed.0.weight") == "time.embed.0.weight"
    assert mobile_name("stages.0.blocks.1.tables.96.offsets") == "stages.0.blocks.1.table"
    assert mobile_name("final_tables.96.offsets") == "final_table"
