"""Runs code in a new Python interpreter, into which other tests have not imported any modules."""

import subprocess
import sys
from pathlib import Path

import pocketdit

SOURCE = Path(pocketdit.__file__).parent.parent


def run_python(code: str) -> str:
    """Run code that can import pocketdit, and return its output."""
    prefix = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    process = subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()
