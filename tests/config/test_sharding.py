"""Tests for the settings of FSDP2: group sizes and invalid combinations."""

from typing import Any

import pytest

from pocketdit.config.experiment import Experiment, Training
from pocketdit.config.load import load
from pocketdit.config.sharding import Sharding
from pocketdit.errors import ConfigError
from pocketdit.running.cost_estimate import cluster_of
from tests.conftest import PRETRAIN


@pytest.mark.parametrize(
    ("group", "devices", "nodes", "size"),
    [
        ("all", 8, 4, 32),
        ("node", 8, 4, 8),
        (4, 8, 4, 4),
        (16, 8, 4, 16),
        (1, 8, 4, 1),
        (32, 8, 4, 32),
        ("node", 1, 1, 1),
    ],
)
def test_the_size_of_a_group(group: Any, devices: int, nodes: int, size: int) -> None:
    assert Sharding(group=group).group_size(devices, nodes) == size


@pytest.mark.parametrize(("group", "devices", "nodes"), [(3, 8, 4), (24, 8, 4), (12, 8, 3), (64, 8, 4), (2, 1, 1)])
def test_groups_that_do_not_divide_the_processes_are_refused(group: int, devices: int, nodes: int) -> None:
    with pytest.raises(ConfigError, match=rf"^training\.sharding\.group is {group}, but {nodes} node.*one of 1"):
        Sharding(group=group).group_size(devices, nodes)


def test_the_error_lists_the_sizes_that_work() -> None:
    training = Training(
        max_steps=1, accelerator="cpu", devices=2, nodes=6, strategy="fsdp2", sharding=Sharding(group=3)
    )
    with pytest.raises(ConfigError) as raised:
        cluster_of(training)
    assert str(raised.value) == (
        "training.sharding.group is 3, but 6 nodes with 2 processes each cannot be divided into groups of that size; "
        "set it to node, all, or one of 1, 2, 4, 6, 12"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.sharding.group=node"], "training: sharding requires strategy=fsdp2, not auto"),
        (
            ["training.sharding.checkpoint=full", "training.strategy=ddp"],
            "requires strategy=fsdp2, not ddp",
        ),
        (
            ["training.strategy=fsdp2", "training.precision=32-true", "training.sharding.weights=bfloat16"],
            "training: sharding.weights=bfloat16 requires precision=bf16-mixed, not 32-true",
        ),
        (["training.strategy=fsdp2", "training.sharding.group=rack"], r"training\.sharding\.group"),
        (["training.strategy=fsdp2", "training.sharding.group=0"], "expected int or one of 'all', 'node', got 0"),
        (["training.strategy=fsdp2", "training.sharding.weight=bfloat16"], "did you mean 'weights'"),
    ],
)
def test_settings_that_do_not_work_are_refused(overrides: list[str], message: str) -> None:
    optimizer = ["optimizer.class_path=torch.optim.AdamW", "optimizer.init_args={lr: 1e-3}"]
    with pytest.raises(ConfigError, match=message) as raised:
        load(PRETRAIN, [*optimizer, *overrides], Experiment)
    assert len(str(raised.value).splitlines()) == 1
