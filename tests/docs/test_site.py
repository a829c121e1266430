"""Tests that the documentation site builds without warnings, and that its pages load nothing from other hosts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = {
    *(
        "start",
        "data",
        "streaming",
        "training",
        "finetuning",
        "distillation",
        "on_device",
        "apps",
        "sweeps",
        "evaluation",
    ),
    *("evaluation", "concepts", "deviations", "decisions", "benchmarks", "scaling", "log"),
    *("configuration", "commands", "api", "extending", "changes", "index", "search"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with the same options as ``make docs``."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--nitpicky", "-q", "docs", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return out


def test_all_pages_exist(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} >= PAGES


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for path in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.js")]:
        text = path.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//[^\"]*", text)
        loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"(?:https?:)?//[^\"]*", text)
        loaded += re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", text)
        assert not loaded, path


def test_the_commands_and_keys_are_those_of_the_code(site: Path) -> None:
    commands = (site / "commands.html").read_text()
    for word in ("--allow-changes", "--launcher", "--latents", "doctor"):
        assert word in commands
    keys = (site / "configuration.html").read_text()
    for key in ("training.gradient_checkpointing", "backbone.widths", "attention.radius", "budget.promote"):
        assert key in keys
    assert "data.init_args.buckets" in keys
    assert "stage.init_args.inputs" not in keys, "arguments that the program supplies must not be listed"


def test_pages_do_not_name_folders_of_this_machine(site: Path) -> None:
    for path in site.glob("*.html"):
        assert str(ROOT) not in path.read_text(), path


def test_the_search_index_finds_a_concept(site: Path) -> None:
    assert "assa" in (site / "searchindex.js").read_text().lower()
