"""Tests that a run is refused if its settings require more processes than were started."""

from pathlib import Path
from typing import Literal

import pytest

from pocketdit.artifacts.run_folder import FOLDER_VARIABLE
from pocketdit.commands.main import main
from pocketdit.config.experiment import Training
from pocketdit.errors import ConfigError
from pocketdit.running.processes import MPI_SIZES, devices_per_node, require_processes
from tests.conftest import PRETRAIN

LAUNCHERS = ("RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_ID",
             "SLURM_JOB_NAME", "SLURM_NTASKS_PER_NODE", "LOCAL_WORLD_SIZE", FOLDER_VARIABLE, *MPI_SIZES)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def training(devices: int | Literal["auto"] = "auto", nodes: int = 1) -> Training:
    return Training(max_steps=1, accelerator="cpu", devices=devices, nodes=nodes)


@pytest.mark.parametrize(
    ("settings", "variables", "message"),
    [
        (
            {"devices": 1024},
            {},
            r"^training\.devices is 1024, but the run can only use \d+ CPU cores? on this machine",
        ),
        (
            {"nodes": 4},
            {},
            r"^training\.nodes is 4, but no launcher has started the other nodes; .* torchrun or srun$",
        ),
        ({}, {"OMPI_COMM_WORLD_SIZE": "4"}, "^OMPI_COMM_WORLD_SIZE=4: several processes were started by MPI"),
        ({}, {"PMI_SIZE": "2"}, "^PMI_SIZE=2: several processes were started by MPI"),
        ({}, {"RANK": "0", "WORLD_SIZE": "3"}, r"require 1 process, but the launcher has started 3"),
        ({"devices": 2}, {"RANK": "0", "WORLD_SIZE": "1"}, r"require 2 processes, but the launcher has started 1"),
        (
            {},
            {"SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "3", "SLURM_STEP_ID": "0"},
            r"require 1 process, but the launcher has started 3",
        ),
        ({"devices": 2}, {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}, "use --ntasks-per-node, not --ntasks$"),
        (
            {"devices": 2, "nodes": 1},
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_STEP_ID": "0"},
            r"devices is 2, but .* 1 per node .SLURM_NTASKS_PER_NODE.; set it to 1, and training\.nodes to 2$",
        ),
        (
            {"devices": 2, "nodes": 2},
            {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "SLURM_NTASKS_PER_NODE": "2"},
            r"^training\.devices is 2, but the launcher has started 4 per node \(LOCAL_WORLD_SIZE\); set it to 4",
        ),
        ({"devices": 2}, {"SLURM_NTASKS": "2"}, "^this job has 2 tasks, but .* start it with srun$"),
        (
            {},
            {"RANK": "0", "WORLD_SIZE": "many"},
            "^WORLD_SIZE=many: this environment variable must be a whole number$",
        ),
    ],
)
def test_missing_processes_are_refused(
    settings: dict[str, int], variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        require_processes(training(**settings))


@pytest.mark.parametrize(
    ("settings", "variables"),
    [
        ({}, {}),
        ({"devices": 2}, {}),
        ({"nodes": 2}, {"NODE_RANK": "1"}),
        ({"devices": 2, "nodes": 3}, {"RANK": "4", "WORLD_SIZE": "6"}),
        ({"devices": 2}, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_ID": "0"}),
        (
            {"nodes": 2},
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_STEP_ID": "0", "PMI_SIZE": "2"},
        ),
        # srun has started one torchrun process per node
        ({"nodes": 2}, {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "SLURM_NTASKS_PER_NODE": "2"}),
        ({}, {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "interactive"}),
        ({"devices": 1024}, {FOLDER_VARIABLE: "runs/a/b"}),
    ],
)
def test_processes_that_exist_are_accepted(
    settings: dict[str, int], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    require_processes(training(**settings))


def test_the_command_refuses_before_it_creates_a_folder(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(PRETRAIN), *tiny, "training.accelerator=cpu"]
    for setting in ("training.devices=1024", "training.nodes=7"):
        assert main([*arguments, setting]) == 2
        assert capsys.readouterr().err.startswith(f"lightning run: {setting.partition('=')[0]} is ")
    assert not (tmp_path / "runs").exists()


def test_a_cpu_runs_one_process_unless_configured_otherwise() -> None:
    assert devices_per_node(training()) == 1
    assert devices_per_node(training(devices=2)) == 2
