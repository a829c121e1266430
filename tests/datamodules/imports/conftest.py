"""Fixtures for the tests of data imports."""

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder for a user's images."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder
