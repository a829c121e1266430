"""Several workers on one storage: every trial once, whatever dies."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from sweeps import engine
from sweeps.results import candidates
from sweeps.settings import Sweep
from sweeps.space import choose
from sweeps.store import Store
from tests.conftest import ROOT
from tests.sweeps.study import loaded, written

TRIALS = 12  # that take longer than the kills
KILLS = 5


def train(seconds: float) -> dict[str, Any]:
    return {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"seconds": seconds}}


def start(folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    """The command, as a user gives it."""
    with (folder / "out.txt").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pocketdit", "sweep", str(folder / "s.yaml"), *words],
            cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip


def running_workers(sweep: Sweep) -> list[int]:
    """Process ids of the workers that have a trial in their hands."""
    trials = [record for record in Store(sweep).records(longer=False) if record.state.name == "RUNNING"]
    return [int(str(r.notes["worker"]).rpartition(":")[2]) for r in trials if "worker" in r.notes]


def kill_some(process: "subprocess.Popen[bytes]", sweep: Sweep) -> int:
    """Kill -9 workers at random moments of random trials. Returns how many were killed."""
    chance, killed, end = random.Random(0), 0, time.monotonic() + 200
    while killed < KILLS and process.poll() is None and time.monotonic() < end:
        time.sleep(chance.uniform(0.1, 1.5))
        if pids := running_workers(sweep):
            try:
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:  # dead already, and its trial not found stale yet
                continue
    return killed


def assert_each_once(folder: Path, sweep: Sweep, trials: int = TRIALS) -> None:
    """Every trial has one result; none was told twice; what was trained before a kill was not trained again."""
    found = candidates(sweep, Store(sweep))
    assert [one.state for one in found] == ["finished"] * trials
    records = Store(sweep).records(longer=False)
    finished = Counter(record.candidate for record in records if record.state.name == "COMPLETE")
    assert len(finished) == trials and set(finished.values()) == {1}
    lines = (folder / "runs" / "s" / "validations").read_text().splitlines()
    counts = Counter(line.rpartition(" ")[0] for line in lines)
    assert set(counts) == {f"trial-{number:04d} {step}" for number in finished for step in (10, 20, 30)}
    lost = sum(record.state.name == "FAIL" for record in records)
    assert counts.total() - len(counts) <= lost  # a kill costs one step at most


def prepare(folder: Path, storage: str, seconds: float, **changes: Any) -> Sweep:
    budget = {"trials": TRIALS, "steps": [30]}
    written(folder, storage=storage, train=train(seconds), budget=budget, **changes)
    return load(folder / "s.yaml", [], Sweep).config


def fresh(address: str, name: str) -> str:
    """A database of its own on the tests' server."""
    import sqlalchemy

    server = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    server.dispose()
    return f"{address.rpartition('/')[0]}/{name}"


@pytest.mark.slow
def test_killed_workers_lose_nothing_on_postgresql(tmp_path: Path, postgres: str) -> None:
    sweep = prepare(tmp_path, fresh(postgres, "killed"), seconds=0.5)
    process = start(tmp_path, "--workers", "2")
    try:
        assert kill_some(process, sweep) == KILLS
        assert process.wait(200) == 0, (tmp_path / "out.txt").read_text()
    finally:
        process.kill()
    assert_each_once(tmp_path, sweep)
    lost = [record for record in Store(sweep).records(longer=False) if record.state.name == "FAIL"]
    assert len(lost) >= KILLS - 1  # a worker may die just after its trial's end


@pytest.mark.slow
def test_killed_workers_lose_nothing_on_ray(tmp_path: Path, postgres: str) -> None:
    pytest.importorskip("ray")
    sweep = prepare(tmp_path, fresh(postgres, "ray"), seconds=0.5, launcher={"kind": "ray", "cpus": 0.5})
    process = start(tmp_path, "--workers", "2", "--launcher", "ray")
    try:
        assert kill_some(process, sweep) == KILLS
        assert process.wait(200) == 0, (tmp_path / "out.txt").read_text()
    finally:
        process.kill()
    assert_each_once(tmp_path, sweep)


@pytest.mark.slow
def test_killed_command_is_gone_on_with(tmp_path: Path, postgres: str) -> None:
    """The command itself dies, its workers with it; given again it finishes what it began."""
    sweep = prepare(tmp_path, fresh(postgres, "command"), seconds=0.5)
    process = start(tmp_path, "--workers", "2")
    while len(pids := running_workers(sweep)) < 2:
        assert process.poll() is None
        time.sleep(0.2)
    for pid in (process.pid, *pids):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert start(tmp_path, "--workers", "2").wait(200) == 0, (tmp_path / "out.txt").read_text()
    assert_each_once(tmp_path, sweep)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_hands_back_its_trials(tmp_path: Path, number: signal.Signals) -> None:
    """Its workers do, so that the next start need not wait for their silence to be noticed."""
    sweep = prepare(tmp_path, "", seconds=0.2, heartbeat={"every": 60, "grace": 600})
    process = start(tmp_path, "--workers", "2")
    try:
        while len(running_workers(sweep)) < 2:
            assert process.poll() is None, (tmp_path / "out.txt").read_text()
            time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(60) == 1
        assert "the same command goes on with s" in (tmp_path / "out.txt").read_text()
        assert start(tmp_path, "--workers", "2").wait(120) == 0, (tmp_path / "out.txt").read_text()
    finally:
        process.kill()
    assert_each_once(tmp_path, sweep)


@pytest.mark.slow
def test_submitit_workers_share_the_study(tmp_path: Path, postgres: str) -> None:
    pytest.importorskip("submitit")
    launcher = {"kind": "slurm", "cluster": "local", "parameters": {"timeout_min": 5}}
    sweep = prepare(tmp_path, fresh(postgres, "jobs"), seconds=0.3, launcher=launcher)
    process = start(tmp_path, "--workers", "2")
    assert process.wait(200) == 0, (tmp_path / "out.txt").read_text()
    assert_each_once(tmp_path, sweep)
    workers = {record.notes["worker"] for record in Store(sweep).records(longer=False)}
    assert len(workers) == 2


def test_workers_on_other_machines_are_refused_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a PostgreSQL address"):
        engine.run(loaded(tmp_path, launcher={"kind": "ray"}))


def test_a_storage_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    from pocketdit.errors import UserError

    for url, message in (
        ("postgresql+psycopg2://me@127.0.0.1:1/x", "does not answer"),
        ("nosql://x", "storage: nosql"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            engine.run(loaded(tmp_path, storage=url))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_two_hands_never_hold_one_trial(tmp_path: Path, kind: str) -> None:
    """Claims from many threads at once on sqlite, each with a connection of its own: no trial is taken twice, and each
    can be given choices by a worker that did not add it."""
    study = loaded(tmp_path, sampler={"kind": kind}).config
    store = Store(study)
    hands = [Store(study, index) for index in range(4)]
    for index in range(20):
        store.add(False, {}, {}, {"random": True} if index % 2 else {})

    def take(own: Store) -> list[int]:
        taken = []
        while claimed := own.claim("hand"):
            taken.append(claimed[1].number)
            assert choose(study.space, claimed[1])
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [number for numbers in pool.map(take, hands) for number in numbers]
    assert sorted(taken) == list(range(20))
