"""Tests that configurations may only name classes of this project, of known libraries, and of trusted modules."""

import sys
from pathlib import Path

import pytest

from pocketdit.config.component import Component
from pocketdit.config.errors import InvalidValueError
from pocketdit.config.importing import import_class, require_module
from pocketdit.config.project import Project, read_project
from pocketdit.config.trust import LIBRARY_CLASSES
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError

FOREIGN = [
    "subprocess.Popen",
    "antigravity.X",
    "torch.nn.Linear",
    "torch.utils.data.DataLoader",
    "http.server.HTTPServer",
]


@pytest.mark.parametrize("class_path", FOREIGN)
@pytest.mark.parametrize("check", [require_module, import_class])
def test_classes_of_other_packages_are_refused(class_path: str, check: object) -> None:
    assert callable(check)
    with pytest.raises(ConfigError, match=f"{class_path} is not trusted; "):
        check(class_path)


@pytest.mark.parametrize(
    ("class_path", "hint"),
    [
        ("torch.optim.AdmW", "did you mean 'torch.optim.AdamW'?"),
        ("torch.nn.Linear", "the only trusted classes of torch are its optimizers"),
    ],
)
def test_torch_is_not_suggested_as_a_trusted_module(class_path: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        import_class(class_path)
    assert str(refused.value) == f"{class_path} is not trusted; {hint}"


def test_refused_modules_are_not_imported(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "hostile.py").write_text("from pathlib import Path\nPath('executed').touch()\nclass X: ...\n")
    monkeypatch.syspath_prepend(project)
    for classes in (False, True):
        with pytest.raises(InvalidValueError, match=r'add "hostile" to modules under \[trust\] in pocketdit\.toml'):
            convert({"class_path": "hostile.X"}, Component, "autoencoder", classes=classes)
    assert "hostile" not in sys.modules
    assert not (project / "executed").exists()

    (project / "pocketdit.toml").write_text('[trust]\nmodules = ["hostile"]\n')
    assert import_class("hostile.X").__name__ == "X"
    assert (project / "executed").exists()


@pytest.mark.parametrize(
    "class_path",
    [
        "pocketdit.artifacts.run_folder.Path",
        "gallery.checking.Path",
        "evaluation.assets.Path",
        "pocketdit.files.Callable",
    ],
)
def test_classes_that_trusted_modules_import_are_refused(class_path: str) -> None:
    with pytest.raises(ConfigError, match=r"is not trusted|has no class"):
        import_class(class_path)


def test_modules_with_a_trusted_prefix_are_refused(project: Path) -> None:
    for class_path in ("pocketdit_extra.X", "gallery2.X"):
        with pytest.raises(ConfigError, match="is not trusted"):
            require_module(class_path)


@pytest.mark.parametrize("class_path", sorted(LIBRARY_CLASSES))
def test_library_classes_exist(class_path: str) -> None:
    import torch

    pytest.importorskip(class_path.partition(".")[0])
    assert issubclass(import_class(class_path), torch.optim.Optimizer)


def test_no_module_is_trusted_without_the_file(project: Path) -> None:
    (project / "pocketdit.toml").unlink()
    assert read_project() == Project()
    with pytest.raises(ConfigError, match="is not trusted"):
        require_module("gallery.shards.ShardData")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trust", "Expected ']'"),
        ("[trusted]\nmodules = []", "unknown key 'trusted'; the only table is [trust]"),
        ("modules = []", "unknown key 'modules'; the only table is [trust]"),
        ("trust = 3", "trust must be a table"),
        ("[trust]\nmodule = []", "unknown key 'trust.module'; did you mean 'modules'?"),
        ('[trust]\nmodules = "a"', "trust.modules must be a list of strings"),
        ("[trust]\nmodules = [1]", "trust.modules must be a list of strings"),
        ("\udcff", "utf-8"),
    ],
)
def test_errors_in_the_file_are_one_line(project: Path, text: str, message: str) -> None:
    (project / "pocketdit.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"^pocketdit\.toml: ") as caught:
        read_project()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("class_path", ["pocketdit.__main__.main", "sweeps.__main__.X", "__main__.X"])
def test_a_class_path_cannot_run_a_program(class_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Importing ``pocketdit.__main__`` would run the user's command again."""
    with pytest.raises(ConfigError, match="because importing __main__ runs a program"):
        import_class(class_path)
    assert capsys.readouterr().out == ""
