"""Makes the package ``gallery`` importable, because the configurations in these tests refer to its classes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "sources"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder that contains only a ``pocketdit.toml``, which trusts ``gallery`` and other modules."""
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["gallery", "unreadable", "torchvision.transforms"]\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path
