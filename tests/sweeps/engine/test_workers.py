"""Tests that several workers on one storage complete every trial exactly once, even if processes are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pocketdit.config.load import load
from sweeps.settings import Sweep
from sweeps.storage.results import load_candidates
from sweeps.storage.store import Store
from tests.conftest import ROOT
from tests.sweeps.study import settings, write

TRIALS = 12  # enough that some are still unfinished at the last kill
KILLS = 5

pytestmark = pytest.mark.slow

Process = subprocess.Popen[bytes]
Prepare = Callable[..., Sweep]


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Process]:
    """Start the command as a user would, and kill it and its workers at the end of the block."""

    def restore_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nohup may have set it to be ignored

    with (folder / "out.txt").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pocketdit", "sweep", str(folder / "s.yaml"), *options],
            stdout=out,
            stderr=out,
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=restore_interrupts,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_to_end(folder: Path, *options: str) -> None:
    with started(folder, *options) as process:
        assert process.wait(200) == 0, output(folder)


def output(folder: Path) -> str:
    return (folder / "out.txt").read_text()


def busy_workers(sweep: Sweep) -> list[int]:
    """Return the process IDs of the workers that are running a trial."""
    trials = [record for record in Store(sweep).records(promoted=False) if record.state.name == "RUNNING"]
    return [int(str(r.attrs["worker"]).rpartition(":")[2]) for r in trials if "worker" in r.attrs]


def wait_for_two_workers(folder: Path, process: Process, sweep: Sweep) -> list[int]:
    while len(pids := busy_workers(sweep)) < 2:
        assert process.poll() is None, output(folder)
        time.sleep(0.2)
    return pids


def kill_workers(process: Process, sweep: Sweep) -> int:
    """Kill workers with SIGKILL at random times, and return the number of kills."""
    rng, killed, deadline = random.Random(0), 0, time.monotonic() + 200
    while killed < KILLS and process.poll() is None and time.monotonic() < deadline:
        time.sleep(rng.uniform(0.1, 1.5))
        if pids := busy_workers(sweep):
            with suppress(ProcessLookupError):  # the worker is already dead, but its trial is not stale yet
                os.kill(rng.choice(pids), signal.SIGKILL)
                killed += 1
    return killed


def assert_each_trial_completed_once(folder: Path, sweep: Sweep) -> None:
    """Check that every trial has one result and that no training from before a kill was repeated."""
    assert [candidate.state for candidate in load_candidates(sweep, Store(sweep))] == ["complete"] * TRIALS
    records = Store(sweep).records(promoted=False)
    complete = Counter(record.candidate for record in records if record.state.name == "COMPLETE")
    assert len(complete) == TRIALS
    assert set(complete.values()) == {1}
    lines = (folder / "runs" / "s" / "validations").read_text().splitlines()
    counts = Counter(line.rpartition(" ")[0] for line in lines)
    assert set(counts) == {f"trial-{number:04d} {step}" for number in complete for step in (10, 20, 30)}
    lost = sum(record.state.name == "FAIL" for record in records)
    assert counts.total() - len(counts) <= lost  # a kill costs at most one validation interval


@pytest.fixture
def prepare(tmp_path: Path, scenes: Path) -> Prepare:
    """Return a function that writes a study with sleeping trials. Its data set exists, as the command requires."""

    def write_study(storage: str, seconds: float, **changes: Any) -> Sweep:
        train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"seconds": seconds}}
        data = settings(tmp_path)["set"] | {"data.init_args.path": str(scenes)}
        budget = {"trials": TRIALS, "steps": [30]}
        path = write(tmp_path, storage=storage, train=train, budget=budget, set=data, **changes)
        return load(path, [], Sweep).config

    return write_study


def new_database(address: str, name: str) -> str:
    """Create an empty database on the test server."""
    import sqlalchemy

    server = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    server.dispose()
    return f"{address.rpartition('/')[0]}/{name}"


def test_killed_workers_lose_nothing_on_postgresql(tmp_path: Path, postgres: str, prepare: Prepare) -> None:
    sweep = prepare(new_database(postgres, "killed"), seconds=0.5)
    with started(tmp_path, "--workers", "2") as process:
        assert kill_workers(process, sweep) == KILLS
        assert process.wait(200) == 0, output(tmp_path)
    assert_each_trial_completed_once(tmp_path, sweep)
    lost = [record for record in Store(sweep).records(promoted=False) if record.state.name == "FAIL"]
    assert len(lost) >= KILLS - 1  # a worker may have been killed just after finishing its trial


def test_killed_workers_lose_nothing_on_ray(tmp_path: Path, postgres: str, prepare: Prepare) -> None:
    pytest.importorskip("ray")
    sweep = prepare(new_database(postgres, "ray"), seconds=0.5, launcher={"kind": "ray", "cpus": 0.5})
    with started(tmp_path, "--workers", "2", "--launcher", "ray") as process:
        assert kill_workers(process, sweep) == KILLS
        assert process.wait(200) == 0, output(tmp_path)
    assert_each_trial_completed_once(tmp_path, sweep)


def test_killed_command_can_be_resumed(tmp_path: Path, postgres: str, prepare: Prepare) -> None:
    """The command and its workers are killed. Running the same command again completes the study."""
    sweep = prepare(new_database(postgres, "command"), seconds=0.5)
    with started(tmp_path, "--workers", "2") as process:
        for pid in (process.pid, *wait_for_two_workers(tmp_path, process, sweep)):
            os.kill(pid, signal.SIGKILL)
    run_to_end(tmp_path, "--workers", "2")
    assert_each_trial_completed_once(tmp_path, sweep)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_returns_its_trials_to_the_queue(
    tmp_path: Path, prepare: Prepare, number: signal.Signals
) -> None:
    """The next command can claim the trials without waiting for heartbeats to time out."""
    sweep = prepare("", seconds=0.2, heartbeat={"every": 60, "grace": 600})
    with started(tmp_path, "--workers", "2") as process:
        wait_for_two_workers(tmp_path, process, sweep)
        process.send_signal(number)
        assert process.wait(200) == 1
    assert "run the same command again to resume s" in output(tmp_path)
    run_to_end(tmp_path, "--workers", "2")
    assert_each_trial_completed_once(tmp_path, sweep)


def test_trial_of_a_job_at_its_time_limit_is_resumed(tmp_path: Path, postgres: str, prepare: Prepare) -> None:
    """SLURM and submitit announce the end of the time limit with SIGUSR2."""
    pytest.importorskip("submitit")
    launcher = {"kind": "slurm", "cluster": "local", "parameters": {"timeout_min": 5}}
    sweep = prepare(new_database(postgres, "limits"), seconds=0.5, launcher=launcher)
    with started(tmp_path, "--workers", "2") as process:
        os.kill(wait_for_two_workers(tmp_path, process, sweep)[0], signal.SIGUSR2)
        assert process.wait(200) == 0, output(tmp_path)
    assert_each_trial_completed_once(tmp_path, sweep)
    outcomes = [record.attrs.get("outcome") for record in Store(sweep).records(promoted=False)]
    assert set(outcomes) == {"complete", "interrupted"}


def test_submitit_workers_share_the_study(tmp_path: Path, postgres: str, prepare: Prepare) -> None:
    pytest.importorskip("submitit")
    launcher = {"kind": "slurm", "cluster": "local", "parameters": {"timeout_min": 5}}
    sweep = prepare(new_database(postgres, "jobs"), seconds=0.3, launcher=launcher)
    run_to_end(tmp_path, "--workers", "2")
    assert_each_trial_completed_once(tmp_path, sweep)
    workers = {record.attrs["worker"] for record in Store(sweep).records(promoted=False)}
    assert len(workers) == 2
