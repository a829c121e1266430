"""Fixtures for tests of the Swift package: the compiled program ``pocketdit-check``, and a manifest."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SOURCES = ROOT / "platform" / "swift" / "Sources"


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program ``pocketdit-check``."""
    compiler = shutil.which("swiftc")
    if compiler is None:
        pytest.skip("there is no Swift compiler (Debian 13: apt install swiftlang)")
    folder = tmp_path_factory.mktemp("swift")
    library = sorted(map(str, (SOURCES / "PocketDiTBundle").glob("*.swift")))
    options = ["-wmo", "-emit-module", "-parse-as-library", "-module-name", "PocketDiTBundle", "-emit-library"]
    output = ["-static", "-o", "libPocketDiTBundle.a"]
    subprocess.run([compiler, *options, *output, *library], cwd=folder, check=True)
    main = str(SOURCES / "pocketdit-check" / "main.swift")
    subprocess.run([compiler, "-I", ".", "-L", ".", "-lPocketDiTBundle", "-o", "check", main], cwd=folder, check=True)
    return folder / "check"


@pytest.fixture
def manifest(bundle: Path) -> dict[str, Any]:
    """A manifest that the test may change."""
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return content
