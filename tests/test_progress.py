"""Tests that progress lines are updated in place in a notebook, and that several processes are refused there."""

import sys
from types import SimpleNamespace

import pytest

from pocketdit.config.experiment import Training
from pocketdit.errors import ConfigError
from pocketdit.progress import ProgressLine, in_notebook
from pocketdit.running.processes import require_processes


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an IPython shell that belongs to the kernel of a notebook."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_a_line_in_a_notebook_is_updated_in_place(notebook: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert in_notebook()
    line = ProgressLine("{desc} {n_fmt}/{total_fmt}{postfix}", desc="train", total=2)
    assert line.live
    line.advance(1, "loss 0.5")
    line.advance(2, "loss 0.4")
    line.close()
    written = capfd.readouterr().err
    assert written.count("\n") == 1
    assert written.split("\r")[-1].strip() == "train 2/2, loss 0.4"


def test_several_processes_are_refused_in_a_notebook(notebook: None) -> None:
    with pytest.raises(ConfigError, match=r"training\.devices: a notebook can only train in one process"):
        require_processes(Training(max_steps=1, accelerator="cpu", devices=2))
    require_processes(Training(max_steps=1, accelerator="cpu", devices=1))


@pytest.mark.parametrize("shell", [None, SimpleNamespace(config={"TerminalIPythonApp": {}})])
def test_other_shells_are_not_notebooks(shell: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not in_notebook()
    assert not ProgressLine("{desc}", desc="train", total=1).live
