"""Tests for the cluster scripts: their syntax, their sbatch options, and the commands that they start."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cluster.jobs import SCRIPTS, job_variables, submit

ALL = sorted(path.name for path in SCRIPTS.iterdir())
JOBS = [name for name in ALL if name.endswith(".sbatch")]
# The sbatch options that every job script must set, with a regular expression for the value of each.
OPTIONS = {
    "job-name": r"\w+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "time": r"\d\d:\d\d:\d\d",
    "dependency": "singleton",
    "requeue": "",
    "open-mode": "append",
    "output": "%x-%j.log",
}
PRINT = """#!/usr/bin/env python3
import json, os, sys
names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "OMP_NUM_THREADS")
os.write(1, (json.dumps([*sys.argv, *(os.environ.get(name, "") for name in names)]) + "\\n").encode())
"""


def options(script: str) -> dict[str, str]:
    """Return the sbatch options of a script, which precede its first command."""
    lines = (SCRIPTS / script).read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    words = [shlex.split(line.removeprefix("#SBATCH "), comments=True) for line in lines[:end] if line[:7] == "#SBATCH"]
    assert not any(line.startswith("#SBATCH") for line in lines[end:]), "sbatch ignores options after the first command"
    return dict(option.removeprefix("--").partition("=")[::2] for (option,) in words)


def stand_in(folder: Path, name: str, text: str = PRINT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder


def commands(output: str) -> list[list[str]]:
    return sorted((json.loads(line) for line in output.splitlines()), key=lambda words: words[-4])


@pytest.mark.parametrize("script", ALL)
def test_the_syntax_is_valid(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("script", JOBS)
def test_the_options_for_sbatch_are_valid(script: str) -> None:
    found = options(script)
    assert found.keys() == OPTIONS.keys()
    for name, value in found.items():
        assert re.fullmatch(OPTIONS[name], value), f"--{name}={value}"
    tasks = int(found["ntasks-per-node"])
    assert tasks == (int(found["gpus-per-node"]) if script == "srun.sbatch" else 1)
    assert tasks * int(found["cpus-per-task"]) == 96


def test_srun_starts_one_process_per_gpu(tmp_path: Path) -> None:
    programs = stand_in(tmp_path / "programs", "lightning")
    variables = job_variables(nodes=2, per_node=2, name="mine")
    job = submit("srun.sbatch", ["my file.yaml", "a=b c"], variables, tmp_path, programs)
    started = commands(job.communicate(timeout=30)[0])
    assert job.returncode == 0
    assert [words[-4:] for words in started] == [
        ["0", "0", "0", "1"], ["1", "1", "0", "1"], ["2", "0", "1", "1"], ["3", "1", "1", "1"],
    ]  # fmt: skip
    expected = ["run", "my file.yaml", "a=b c", "--resume", "--name", "mine", "training.nodes=2", "training.devices=2"]
    assert all(words[1:-4] == expected for words in started)


def test_torchrun_is_started_once_per_node(tmp_path: Path) -> None:
    programs = stand_in(tmp_path / "programs", "torchrun")
    stand_in(programs, "scontrol", "#!/bin/sh\n[ \"$*\" = 'show hostnames gpu[3-4]' ] && printf 'gpu3\\ngpu4\\n'\n")
    variables = job_variables(nodes=2, per_node=1, name="mine")
    variables |= {"SLURM_JOB_NODELIST": "gpu[3-4]", "SLURM_GPUS_PER_NODE": "8", "SLURM_JOB_ID": "7654321"}
    job = submit("torchrun.sbatch", ["file.yaml"], variables, tmp_path, programs)
    started = commands(job.communicate(timeout=30)[0])
    assert job.returncode == 0
    assert [words[-4:-1] for words in started] == [["0", "0", "0"], ["1", "0", "1"]]
    line = (
        "--nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint gpu3:24321 "
        "--rdzv-id 7654321 -m pocketdit run file.yaml --resume --name mine training.nodes=2 training.devices=8"
    )
    assert [" ".join(words[1:-4]) for words in started] == [line, line]


def test_torchrun_without_a_scheduler(tmp_path: Path) -> None:
    programs = stand_in(tmp_path / "programs", "torchrun")
    variables = {"HEAD": "node-0", "NODES": "4", "GPUS": "8", "NAME": "mine"}
    job = submit("torchrun.sh", ["file.yaml", "seed=1"], variables, tmp_path, programs)
    (words,) = commands(job.communicate(timeout=30)[0])
    assert " ".join(words[1:-4]) == (
        "--nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint node-0:29400 "
        "--rdzv-id mine -m pocketdit run file.yaml seed=1 --resume --name mine training.nodes=4 training.devices=8"
    )


@pytest.mark.parametrize("script", ALL)
def test_a_missing_file_is_named(script: str, tmp_path: Path) -> None:
    job = submit(script, [], job_variables(2, 2, "mine"), tmp_path)
    assert "the first argument must be the YAML file of an experiment" in job.communicate(timeout=30)[0]
    assert job.returncode


def test_a_task_that_fails_ends_the_job(tmp_path: Path) -> None:
    failing = "#!/bin/sh\n[ $SLURM_PROCID = 2 ] && exit 3\nexec sleep 60\n"
    programs = stand_in(tmp_path / "programs", "lightning", failing)
    job = submit("srun.sbatch", ["file.yaml"], job_variables(2, 2, "mine"), tmp_path, programs)
    job.communicate(timeout=30)
    assert job.returncode
