"""coremltools is silenced, and nothing else is."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging
from pocketdit.export.coreml.dependency import silence_coremltools
silence_coremltools()
import coremltools
logging.getLogger("datamodules.shards").warning("a sample is damaged")
"""


def test_only_coremltools_is_silenced() -> None:
    """Its import warns about a dozen missing libraries, which must not hide the warnings about data."""
    pytest.importorskip("coremltools")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr == "a sample is damaged\n"
