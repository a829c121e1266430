"""Makes ``gallery`` importable: a package whose classes the configurations of these tests name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "sources"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder, whose ``pocketdit.toml`` trusts ``gallery`` among others, the working directory."""
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["gallery", "unreadable", "torchvision.transforms"]\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path
