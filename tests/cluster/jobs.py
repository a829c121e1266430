"""Runs the scripts in ``experiments/cluster`` on this machine, with a stand-in for SLURM's ``srun``."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import ROOT

SCRIPTS = ROOT / "experiments" / "cluster"
STAND_INS = Path(__file__).parent


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def job_variables(nodes: int, per_node: int, name: str) -> dict[str, str]:
    """Return the environment variables that sbatch sets for a job on ``nodes`` nodes."""
    variables = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": name,
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": str(nodes * per_node),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_NODELIST": "127.0.0.1",
    }
    return {**variables, "MASTER_PORT": str(free_port())}


def submit(
    script: str, arguments: Sequence[str], variables: Mapping[str, str], folder: Path, programs: Path | None = None
) -> "subprocess.Popen[str]":
    """Start a script on this machine as sbatch would start it on a cluster.

    Args:
        script: Name of the script.
        arguments: Arguments of the script.
        variables: Environment variables of the job.
        folder: Working directory.
        programs: Folder of programs that the script can start. The default is the folder of the Python interpreter.
    """
    path = os.pathsep.join([str(STAND_INS), str(programs or Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(SCRIPTS / script), *arguments],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
