"""Tests that values in suggested commands are read correctly, by a shell and then as YAML."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketdit.commands.main import parse
from pocketdit.config.load import load
from pocketdit.config.override import in_quotes
from pocketdit.config.shell import command_line, operand, setting
from pocketdit.errors import ConfigError

TEXTS = ["a b", "it's", 'say "x"', "set #1", "#x", "a=b", "$HOME", "${seed}", "\\${seed}", "a\nb", "[x", "{a", "-x",
         "- x", "a: b", "null", "1", "true", "*x", "&x", "!x", "@x", "%x", "`x`", "|", "---", "a\\", "é", "~", " a ",
         "x'#y"]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    text: str
    seed: int = 0


def shell_words(command: str) -> list[str]:
    """Return the words into which the shell splits a command."""
    script = f"for word in {command}; do printf '%s\\0' \"$word\"; done"
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    return printed.split("\0")[:-1]


@pytest.mark.parametrize("text", TEXTS)
def test_a_suggested_setting_has_the_same_value_when_it_is_pasted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("text: other\n")
    *_, word = shell_words(command_line("run", "settings.yaml", setting("text", text)))
    assert load(file, [word], Settings).config == Settings(text)


@pytest.mark.parametrize("text", TEXTS)
def test_paths_and_names_of_runs_are_read_as_such(text: str) -> None:
    _, *words = shell_words(command_line("run", "file.yaml", "--resume", operand(text)))
    assert Path(parse(words).resume) == Path(text)
    _, *words = shell_words(command_line("sync", operand(text), "--to", "sqlite:///a"))
    assert Path(parse(words).run) == Path(text)


@pytest.mark.parametrize("text", TEXTS)
def test_prompts_may_begin_with_a_hyphen(text: str) -> None:
    _, *words = shell_words(command_line("sample", "run", prompts=[text]))
    assert parse(words).prompts == [text]
    assert parse(["sample", "run", "--width", "0.5", "--", text]).prompts == [text]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A valid settings file."""
    file = tmp_path / "settings.yaml"
    file.write_text("text: other\n")
    return file


@pytest.mark.parametrize(
    "text", ["a b", "it's", "set #1", "#x", "a=b", "$HOME", "a\nb", "-x", "a\\", "a, b", "x'#y", "x]"]
)
def test_an_override_keeps_plain_text(text: str, file: Path) -> None:
    assert load(file, [f"text={text}"], Settings).config.text == text


@pytest.mark.parametrize("text", ["[x", "{a", "1", "true", "*x", "&x", "!x", "@x", "%x", "`x`", "|", "---", "'", '"a'])
def test_an_override_that_is_not_text_is_refused_with_the_quoted_form(text: str, file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, [f"text={text}"], Settings)
    assert str(caught.value).endswith(in_quotes("text", text))
    assert load(file, shell_words(in_quotes("text", text)), Settings).config.text == text


def test_the_name_of_a_run_may_contain_an_equals_sign() -> None:
    assert parse(["run", "a.yaml", "--resume", "experiment/a=b"]).resume == "experiment/a=b"
    args = parse(["run", "a.yaml", "--resume", "training.max_steps=3"])
    assert (args.resume, args.overrides) == ("", ["training.max_steps=3"])
