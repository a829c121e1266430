"""Tests for converting sharded checkpoints to single files: content, refusals, and replacement of the shards."""

import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from pocketdit.errors import RunError
from pocketdit.running.checkpointing import AtomicCheckpointIO, consolidate
from pocketdit.running.consolidation import name_parameters, number_parameters, read_consolidated
from pocketdit.running.sharded import load_shards, require_undamaged, save_shards

REST = {"global_step": 7, "loops": {"fit_loop": [1, 2]}, "callbacks": {}}


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False))
    weight, bias, last = network.parameters()
    groups: list[dict[str, Any]] = [{"params": [last]}, {"params": [weight, bias], "lr": 0.25}]
    optimizer = torch.optim.AdamW(groups, lr=0.5, betas=(0.1, 0.2))
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return network, optimizer


def write_shards(path: Path) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network, optimizer = trained()
    names = ["1.weight", "0.weight", "0.bias"]
    state = {"state_dict": network.state_dict(), "optimizer_0": name_parameters(optimizer.state_dict(), names)}
    save_shards(state, REST, path, 0)
    return network, optimizer


def test_a_consolidated_checkpoint_contains_what_a_single_file_does(tmp_path: Path) -> None:
    network, optimizer = write_shards(tmp_path / "last.ckpt")
    checkpoint = read_consolidated(tmp_path / "last.ckpt")
    (state,) = checkpoint.pop("optimizer_states")
    weights = checkpoint.pop("state_dict")
    assert checkpoint == REST
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    expected = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1, 2]]
    assert [group["lr"] for group in state["param_groups"]] == [0.5, 0.25]
    assert list(state["param_groups"][0]["betas"]) == [0.1, 0.2]
    for number, values in expected["state"].items():
        assert all(torch.equal(value, state["state"][number][name]) for name, value in values.items())

    again, other = trained()
    again.load_state_dict(weights)
    other.load_state_dict(state)
    for module, steps in ((network, optimizer), (again, other)):
        module(torch.full((1, 3), 2.0)).square().sum().backward()
        steps.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_numbers_and_names_of_parameters_are_inverses() -> None:
    state = {"state": {0: {"step": 1}, 2: {"step": 2}}, "param_groups": [{"params": [1, 0], "lr": 1}, {"params": [2]}]}
    named = name_parameters(state, ["a", "b", "c"])
    assert named["state"] == {"a": {"step": 1}, "c": {"step": 2}}
    assert [group["params"] for group in named["param_groups"]] == [["b", "a"], ["c"]]
    in_order = number_parameters(named)  # numbers follow the order of the groups, as in torch
    assert [group["params"] for group in in_order["param_groups"]] == [[0, 1], [2]]
    assert in_order["state"] == {1: {"step": 1}, 2: {"step": 2}}
    assert number_parameters({"param_groups": []}) == {"state": {}, "param_groups": []}


class Touch:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_code_in_a_shard_is_not_executed(tmp_path: Path) -> None:
    """By default, torch unpickles values that are not tensors. The checksums of this checkpoint are correct."""
    touched = tmp_path / "touched"
    save_shards({"state_dict": {"w": torch.ones(2)}, "extra": Touch(touched)}, REST, tmp_path / "last.ckpt", 0)
    with pytest.raises(RunError, match="cannot be read as a sharded checkpoint"):
        read_consolidated(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointException) as raised:
        load_shards({"extra": 0}, tmp_path / "last.ckpt")
    assert any(isinstance(error, pickle.UnpicklingError) for error, _ in raised.value.failures.values())
    assert not touched.exists()


@pytest.mark.parametrize("index", [None, 5])
def test_code_in_an_index_of_a_rank_is_not_executed(tmp_path: Path, index: int | None) -> None:
    """If the common index is missing or invalid, ``torch`` itself would unpickle the index file of each rank."""
    path, touched = tmp_path / "last.ckpt", tmp_path / "touched"
    save_shards({"state_dict": {"w": torch.ones(2)}}, REST, path, 0)
    for file in path.glob("checksums-*.json"):
        file.unlink()
    (path / ".metadata").unlink()
    if index is not None:
        (path / ".metadata").write_bytes(pickle.dumps(index))
    (path / "__0.metadata").write_bytes(pickle.dumps(Touch(touched)))
    with pytest.raises(RunError, match=r"\.metadata is missing or damaged"):
        require_undamaged(path)
    assert not touched.exists()


def test_a_consolidation_keeps_shards_without_a_training_state(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    save_shards({"state_dict": {"w": torch.ones(2)}}, {"callbacks": {}}, folder.checkpoint, 0)
    with pytest.raises(RunError, match="does not contain a training state"):
        consolidate(folder)
    assert folder.checkpoint.is_dir()


def test_a_single_process_resumes_from_shards(tmp_path: Path) -> None:
    network, _ = write_shards(tmp_path / "last.ckpt")
    checkpoint = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(checkpoint["state_dict"]["0.weight"], network.state_dict()["0.weight"])
    (shard,) = (tmp_path / "last.ckpt").glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"{shard.name} is missing or damaged"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_a_file_replaces_the_shards_and_shards_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "experiment" / "run")
    write_shards(folder.checkpoint)
    assert consolidate(folder) == (7, folder.checkpoint)
    assert folder.checkpoint.is_file()
    assert AtomicCheckpointIO().load_checkpoint(folder.checkpoint)["global_step"] == 7
    for _ in range(2):
        write_shards(folder.new_checkpoint)
        folder.publish_new_checkpoint()
        assert folder.checkpoint.is_dir()
    assert [path.name for path in folder.checkpoint.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("published", [False, True])
def test_an_interrupted_consolidation_keeps_a_checkpoint(tmp_path: Path, published: bool) -> None:
    folder = RunFolder(tmp_path / "experiment" / "run")
    write_shards(folder.checkpoint)
    old = folder.checkpoint.with_name(".old.ckpt")
    AtomicCheckpointIO().save_checkpoint(read_consolidated(folder.checkpoint), folder.new_checkpoint)
    folder.checkpoint.rename(old)
    if published:
        folder.new_checkpoint.rename(folder.checkpoint)
    folder.clean()
    assert folder.checkpoint.is_file() == published
    assert AtomicCheckpointIO().load_checkpoint(folder.checkpoint)["global_step"] == 7
    assert [path.name for path in folder.checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_keeps_the_shards_and_the_same_command_then_succeeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "runs" / "experiment" / "run")
    write_shards(folder.checkpoint)
    folder.config.write_text("")
    for options, file in (["--to", str(tmp_path / "x.ckpt")], tmp_path / "x.ckpt"), ([], folder.checkpoint):
        command = ["consolidate", str(folder.path), *options]
        allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, allowed[1]))  # has the same effect as a full disk
        try:
            assert main(command) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
        assert capsys.readouterr().err == (
            f"lightning consolidate: could not write {file} (only part of it could be written); free some disk space, "
            "then run the same command again; the shards have been kept\n"
        )
        assert folder.checkpoint.is_dir()
        assert main(command) == 0
        assert AtomicCheckpointIO().load_checkpoint(file)["global_step"] == 7
        capsys.readouterr()


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "runs" / "experiment" / "run")
    folder.path.mkdir(parents=True)
    folder.config.write_text("")
    assert main(["consolidate", "experiment", "--runs", str(tmp_path / "runs")]) == 1
    assert main(["consolidate", str(folder.path)]) == 1
    write_shards(folder.checkpoint)
    assert main(["consolidate", str(folder.path), "--to", str(tmp_path)]) == 1
    assert main(["consolidate", str(folder.path)]) == 0
    assert main(["consolidate", str(folder.path)]) == 1
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in err.splitlines()] == ["lightning consolidate"] * 4
    reasons = ("no run named", "does not exist", "this is a folder", "is already a single file")
    assert all(reason in line for reason, line in zip(reasons, err.splitlines(), strict=True))
    assert out == f"experiment/run: checkpoint of step 7 in {folder.checkpoint}\n"
