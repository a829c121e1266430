"""Tests that all ranks of a run report an error that occurs on one of them, instead of waiting for the failed rank."""

import multiprocessing
import os
import re
import resource
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.errors import RunError
from pocketdit.running.checkpointing import Checkpoints
from pocketdit.running.gathering import fail_together
from pocketdit.running.sharded import require_undamaged, save_shards

STATE = {"state_dict": {"w": torch.arange(3.0)}}
RESUME = "run the same command with --resume to continue from the previous checkpoint"
Call = Callable[[int], object]


def on_two_ranks(call: Call, folder: Path) -> list[str]:
    """Call a function with the rank in each of two connected processes, and return what each process reports.

    A process whose collective operation does not match that of the other process fails after a minute.
    """
    processes = []
    for rank in range(2):

        def run(rank: int = rank) -> None:
            address, limit = f"file://{folder / 'store'}", timedelta(seconds=60)
            torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=limit)
            report = "no error"
            try:
                call(rank)
            except BaseException as error:
                report = f"{type(error).__name__}: {error}"
            (folder / f"report-{rank}").write_text(report)
            os._exit(0)

        processes.append(multiprocessing.get_context("fork").Process(target=run))
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=120)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [(folder / f"report-{rank}").read_text() for rank in range(2)]


def test_ranks_report_the_first_error(tmp_path: Path) -> None:
    def fail(rank: int) -> None:
        with fail_together(2):
            pass
        with fail_together(2):
            if rank == 1:
                raise RunError("the second rank failed")

    assert on_two_ranks(fail, tmp_path) == ["RunError: the second rank failed"] * 2


def test_shards_are_complete_if_no_rank_fails(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert on_two_ranks(lambda rank: save_shards(STATE, {"loops": {}}, path, rank, 2), tmp_path) == ["no error"] * 2
    require_undamaged(path)
    assert {"meta.pt", "checksums-0.json", "checksums-1.json"} < {file.name for file in path.iterdir()}


def test_a_rank_that_cannot_create_the_folder_stops_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    paths = tmp_path / "last.ckpt", tmp_path / "file" / "last.ckpt"
    expected = (
        f"RunError: could not write {paths[1]} (Not a directory); make sure that it can be written, then {RESUME}"
    )
    assert on_two_ranks(lambda rank: save_shards(STATE, {}, paths[rank], rank, 2), tmp_path) == [expected] * 2


def test_a_disk_that_is_full_after_the_shards_stops_all_ranks(tmp_path: Path) -> None:
    """The first rank writes the rest of the training state. A limit on file sizes has the effect of a full disk."""
    path = tmp_path / "last.ckpt"

    def save(rank: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        save_shards(STATE, {"large": torch.zeros(100_000)}, path, rank, 2)

    first, second = on_two_ranks(save, tmp_path)
    assert first == second
    reason = r"\((File too large|only part of it could be written)\)"
    assert re.fullmatch(
        f"RunError: could not write {re.escape(str(path))} {reason}; free some disk space, then {RESUME}", first
    )


@pytest.mark.parametrize(
    ("blocked", "reason"), [("last.ckpt", "No such file or directory"), ("weights.safetensors", "Is a directory")]
)
def test_a_rank_that_cannot_replace_a_file_stops_all(blocked: str, reason: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    path = folder.checkpoint if blocked == "last.ckpt" else folder.weights
    path.mkdir(parents=True)

    def save(rank: int) -> None:
        trainer: Any = SimpleNamespace(
            strategy=None, is_global_zero=rank == 0, world_size=2, save_checkpoint=lambda path, weights_only: None
        )
        module: Any = SimpleNamespace(weights=lambda: STATE["state_dict"])
        Checkpoints(folder, 1, "").save(trainer, module)

    expected = f"RunError: could not write {path} ({reason}); make sure that it can be written, then {RESUME}"
    assert on_two_ranks(save, tmp_path) == [expected] * 2
