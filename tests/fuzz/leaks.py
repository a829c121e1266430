"""Passes secrets to commands, and checks that no file, database, output or process list contains them."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import yaml  # type: ignore[import-untyped]

from tests.fuzz.command import Output, checked
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.shipped import ROOT
from tests.fuzz.tiny_runs import arguments, prepare
from tests.sweeps.study import settings

STAGE, NAME = "elastic_pretrain", "secret"
# The names of cases that must be refused, because the secret is not in an environment variable, end with this.
PLAIN = "in plain text"
# Names of environment variables. Only some of them suggest a secret.
VARIABLES = ("FUZZ_TOKEN", "FUZZ_PASSWORD", "FUZZ_TRACKER")
Commands = list[list[str]]


def _run(given: Input, *more: str) -> list[str]:
    return [*arguments(STAGE, given.shared, given.folder, NAME, steps=2), "training.validate_every=0", *more]


def _password(given: Input, secret: str) -> Commands:
    """Return commands that train and synchronize a run whose tracking server needs a password."""
    uri = f"http://user:{secret}@127.0.0.1:9"
    run = str(given.folder / "runs" / STAGE / NAME)
    return [_run(given, f"tracking.uri={uri}"), ["sync", run], ["sync", run, "--to", uri]]


def _parameter(given: Input, secret: str) -> Commands:
    name = given.numbers.choice(("token", "api_key", "password", "access_token"))
    return [_run(given, f"tracking.uri=http://127.0.0.1:9/x?{name}={secret}")]


def _database(given: Input, secret: str) -> Commands:
    return [_run(given, f"tracking.uri=postgresql+psycopg2://user:{secret}@127.0.0.1:9/mlflow")]


def _prompt(given: Input, secret: str) -> Commands:
    return [_run(given, f"sampling.prompts=['a red circle {secret}', a blue star]"), _run(given, "--print-config")]


def _wrong_key(given: Input, secret: str) -> Commands:
    return [_run(given, f"trackin.uri=http://user:{secret}@127.0.0.1:9"), _run(given, f"tracking=http://u:{secret}@h")]


def _file(given: Input, secret: str) -> Commands:
    values = yaml.safe_load((ROOT / "experiments" / f"{STAGE}.yaml").read_text())
    path = given.folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**values, "tracking": {"uri": f"http://user:{secret}@127.0.0.1:9"}}))
    return [["run", str(path), *(word for word in _run(given)[2:] if not word.startswith("tracking.uri="))]]


def _resumed(given: Input, secret: str) -> Commands:
    uri = f"tracking.uri=http://user:{secret}@127.0.0.1:9"
    return [_run(given, uri), _run(given, uri, "training.max_steps=4"), _run(given, uri, "backbone.width=32")]


def _two_processes(given: Input, secret: str) -> Commands:
    uri = f"tracking.uri=http://user:{secret}@127.0.0.1:9"
    return [_run(given, uri, "training.devices=2", "training.accelerator=cpu")]


def _evaluation(given: Input, secret: str) -> Commands:
    run = given.shared / "runs" / STAGE / "reference"
    small = ["prompts.captions.init_args.count=2", "resamples=100", "width=0.5", "steps=1", f"run={run}"]
    out = [f"out={given.folder / 'evaluations'}", f"tracking.uri=http://user:{secret}@127.0.0.1:9"]
    return [["evaluate", str(ROOT / "experiments" / "eval" / "held_out.yaml"), *small, *out]]


def _sweep(given: Input, secret: str) -> Commands:
    """Return commands for a sweep with two workers, in which trials sleep instead of training."""
    return _study(given, secret, workers=2)


def _failing_trial(given: Input, secret: str) -> Commands:
    """Return commands for a sweep whose trials fail with an error that contains the tracking server's address."""
    return _study(given, secret, train={"class_path": "tests.sweeps.sleeping.FailWithAddress"})


def _storage(given: Input, secret: str) -> Commands:
    return _study(given, secret, storage=f"postgresql+psycopg2://user:{secret}@127.0.0.1:9/study")


def _study(given: Input, secret: str, **changes: object) -> Commands:
    (given.folder / "pocketdit.toml").write_text('[trust]\nmodules = ["tests"]\n')
    values = settings(given.folder, **{"budget": {"trials": 2, "steps": [10]}, **changes})
    values["set"] |= {
        "tracking.uri": f"http://user:{secret}@127.0.0.1:9",
        "data.init_args.path": str(given.shared / "scenes"),
    }
    path = given.folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values))
    return [["sweep", str(path)], ["sweep", str(path), "--print-config"], ["sweep", str(path), "--plots"]]


KINDS: dict[str, Callable[[Input, str], Commands]] = {
    "tracking password": _password,
    "tracking parameter": _parameter,
    "tracking database": _database,
    "prompt": _prompt,
    "wrong key": _wrong_key,
    "file": _file,
    "resumed": _resumed,
    "two processes": _two_processes,
    "evaluation": _evaluation,
    "sweep": _sweep,
    "failing trial": _failing_trial,
    "sweep storage": _storage,
    f"tracking password {PLAIN}": _password,
    f"tracking parameter {PLAIN}": _parameter,
    f"file {PLAIN}": _file,
    f"sweep storage {PLAIN}": _storage,
}


def _check(given: Input) -> str:
    value, variable = f"Kq7-{given.numbers.randbytes(6).hex()}%2Fz", given.numbers.choice(VARIABLES)
    spellings, is_plain = {value, unquote(value)}, given.kind.endswith(PLAIN)
    commands = KINDS[given.kind](given, value if is_plain else f"${{oc.env:{variable}}}")
    given_in = {path: path.read_bytes() for path in given.folder.rglob("*") if path.is_file()}
    outputs = []
    for command in commands:
        outputs.append(_start(given.folder, command, {variable: value}, set() if is_plain else spellings))
        files = [path for path in given.folder.rglob("*") if path.is_file() and path not in given_in]
        found = [path for path in files if any(text.encode() in path.read_bytes() for text in spellings)]
        assert not found, f"{shlex.join(command)}: the secret is in {found}"
    endings = [f"{output.status} {output.lines[-1][:150]}" for output in outputs]
    assert not is_plain or all(output.status for output in outputs), endings
    return f"{'refused' if is_plain else 'kept'}: {variable}: {endings}"


def _start(folder: Path, command: list[str], variables: dict[str, str], hidden: set[str]) -> Output:
    """Run a command, check that no process has a hidden string in its command line, and return the output."""
    log = folder / "log"
    environment = {**os.environ, **variables, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pocketdit", *command], cwd=folder, env=environment, stdout=output, stderr=output
        )
        while process.poll() is None:
            shown = [line for line in process_lines() if any(text in line for text in hidden)]
            assert not shown, f"{shlex.join(command)}: a process shows the secret: {shown}"
            time.sleep(0.1)
    return checked(process.returncode, log.read_text())


def process_lines() -> list[str]:
    """Return the command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # the process has ended
            continue
    return lines


LEAKS = Fuzzer("leaks", tuple(KINDS), _check, count=len(KINDS), seconds=300, prepare=prepare)
