"""Tests that the warnings of coremltools, but no others, are suppressed, and that missing extras are reported early."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import logging
from pocketdit.export.coreml.dependency import silence_coremltools
silence_coremltools()
import coremltools
logging.getLogger("datamodules.shards").warning("a sample is damaged")
"""


def test_only_coremltools_is_silenced() -> None:
    """Importing coremltools logs a dozen warnings, which are hidden. Other warnings must still be shown."""
    pytest.importorskip("coremltools")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr == "a sample is damaged\n"


@pytest.mark.parametrize(("file", "extra"), [("coreml", "export"), ("coreai", "coreai"), ("litert", "litert")])
def test_a_missing_extra_is_named_before_anything_is_loaded(file: str, extra: str) -> None:
    """The error precedes any check of the settings, and torch is not imported."""
    program = (
        "import importlib.util, sys\n"
        "from pocketdit.commands.main import main\n"
        "importlib.util.find_spec = lambda name, package=None: None\n"
        f"status = main(['export', 'experiments/export/{file}.yaml', 'run=none', 'widht=3'])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(f"install it with: pip install 'pocketdit[{extra}]'\n")
    assert done.stderr.count("\n") == 1
