"""A fixture for tests that build data sets from a user's images."""

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder for a user's images."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder
