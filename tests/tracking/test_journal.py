import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pocketdit.errors import RunError
from pocketdit.tracking.events import Artifact, Image, Metric, Param, Status, Tag
from pocketdit.tracking.journal import Journal, read_events, read_metrics
from tests.tracking.conftest import StartProcess


@pytest.fixture
def path(run_folder: Path) -> Path:
    return run_folder / "metrics.jsonl"


def test_logged_values_are_read_back_in_order_and_bit_for_bit(path: Path) -> None:
    values = [0.1 + 0.2, 1e-308, math.pi * 1e300, -0.0, math.inf, -math.inf]
    journal = Journal(path)
    journal.log_param("optimizer.lr", "0.0001")
    journal.log_tag("experiment", "prétrain")
    for step, value in enumerate(values):
        journal.log_metrics({"loss": value, "nothing": math.nan}, step)
    journal.log_image("samples/0.5", "samples/a.png", 7)
    journal.log_artifact("weights.safetensors")
    journal.log_status("FINISHED")

    curves = read_metrics(path)
    assert [step for step, _ in curves["loss"]] == list(range(len(values)))
    assert [value.hex() for _, value in curves["loss"]] == [value.hex() for value in values]
    assert all(math.isnan(value) for _, value in curves["nothing"])
    kinds = [type(event) for event, _ in read_events(path)]
    assert kinds == [Param, Tag, *[Metric] * 2 * len(values), Image, Artifact, Status]
    assert list(read_events(path))[-1][1] == path.stat().st_size


def test_resumed_run_writes_no_duplicates(path: Path) -> None:
    first = Journal(path)
    assert not first.resumed
    first.log_param("lr", "1")
    first.log_tag("experiment", "pretrain")
    for step in range(100):
        first.log_metrics({"loss": 1 / (step + 1), "rate": 0.5}, step)
    first.log_image("samples", "samples/50.png", 50)
    first.close()
    before = path.read_bytes()

    second = Journal(path)
    assert second.resumed
    second.log_param("lr", "1")
    second.log_tag("experiment", "pretrain")
    second.log_image("samples", "samples/50.png", 50)
    for step in range(80, 100):
        second.log_metrics({"loss": 1 / (step + 1), "rate": 0.5}, step)
    assert path.read_bytes() == before
    for step in range(99, 120):
        second.log_metrics({"loss": 1 / (step + 1), "rate": 0.5, "late": 1.0}, step)
    second.log_image("samples", "samples/100.png", 100)

    curves = read_metrics(path)
    assert curves["loss"] == [(step, 1 / (step + 1)) for step in range(120)]
    assert curves["rate"] == [(step, 0.5) for step in range(120)]
    assert curves["late"] == [(step, 1.0) for step in range(99, 120)], "a new key must also be logged for old steps"
    assert [event.step for event, _ in read_events(path) if isinstance(event, Image)] == [50, 100]


def test_partial_last_line_is_not_read_and_is_truncated_on_opening(path: Path) -> None:
    journal = Journal(path)
    for step in range(3):
        journal.log_metrics({"loss": float(step)}, step)
    journal.close()
    complete = path.read_bytes()
    path.write_bytes(complete[:-9])
    assert read_metrics(path) == {"loss": [(0, 0.0), (1, 1.0)]}

    journal = Journal(path)
    assert complete.startswith(path.read_bytes())
    journal.log_metrics({"loss": 2.0}, 2)
    assert read_metrics(path) == {"loss": [(0, 0.0), (1, 1.0), (2, 2.0)]}


def test_damaged_line_loses_only_that_line(path: Path) -> None:
    journal = Journal(path)
    journal.log_metrics({"loss": 0.0}, 0)
    with path.open("ab") as file:
        file.write(b'\x00\x00{"kind"\n[1]\n{"kind": "metric"}\n{"kind": "later"}\n')
    journal.log_metrics({"loss": 1.0}, 1)
    assert read_metrics(path) == {"loss": [(0, 0.0), (1, 1.0)]}
    assert Journal(path).resumed


def test_kill_9_loses_nothing_that_was_logged(path: Path, start_process: StartProcess) -> None:
    code = (
        "from pathlib import Path; from pocketdit.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for step in range(10**9):\n"
        "    journal.log_metrics({'loss': step / 3, 'rate': 1.0}, step)\n"
        "    print(step, flush=True)\n"
    )
    writer = start_process(code, str(path), stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) == 1000:
            writer.send_signal(signal.SIGKILL)
            break
    reported = 1000 + sum(1 for line in writer.stdout if line.endswith("\n"))
    writer.wait()

    Journal(path)
    curves = read_metrics(path)
    assert curves["loss"] == [(step, step / 3) for step in range(len(curves["loss"]))]
    assert len(curves["loss"]) > reported
    assert path.read_bytes().endswith(b"\n")


def test_full_disk_is_a_clear_error_and_leaves_a_readable_journal(path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from pocketdit.errors import RunError; from pocketdit.tracking.journal import Journal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "try:\n"
        "    for step in range(1000): journal.log_metrics({'loss': 1.0}, step)\n"
        "except RunError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert result.stdout.startswith(f"{path}: cannot be written (File too large)"), result.stderr
    steps = len(read_metrics(path)["loss"])
    Journal(path).log_metrics({"loss": 2.0}, steps)
    assert read_metrics(path)["loss"] == [*((step, 1.0) for step in range(steps)), (steps, 2.0)]


def test_journal_that_cannot_be_opened_is_a_clear_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RunError, match="cannot be opened"):
        Journal(path)
