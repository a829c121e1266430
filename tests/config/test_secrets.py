"""Tests that secrets in a configuration are stored as references, masked in messages, and refused in plain text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pocketdit.config.load import load
from pocketdit.config.secrets import mask, require_no_password, resolve
from pocketdit.errors import ConfigError

SECRET = "hunter2-Zyx"


@dataclass(frozen=True)
class Tracking:
    uri: str = ""
    copy: str = ""


@dataclass(frozen=True)
class Config:
    tracking: Tracking = field(default_factory=Tracking)
    steps: int = 1
    path: str = ""
    headers: dict[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKER_TOKEN", SECRET)
    monkeypatch.setenv("STEPS", "12")
    path = tmp_path / "c.yaml"
    path.write_text(
        "tracking:\n"
        "  uri: https://me:${oc.env:TRACKER_TOKEN}@host/${steps}\n"
        "  copy: ${tracking.uri}\n"
        "steps: ${oc.env:STEPS}\n"
        "path: data/${steps}\n"
        "headers: {Authorization: 'Bearer ${oc.env:TRACKER_TOKEN}', all: '${tracking}'}\n"
        "names: [a, '${oc.env:TRACKER_TOKEN}']\n"
    )
    return path


def test_references_are_stored_and_values_are_used(file: Path, tmp_path: Path) -> None:
    loaded = load(file, [], Config)
    assert loaded.config.tracking.uri == f"https://me:{SECRET}@host/12"
    assert loaded.config.tracking.copy == loaded.config.tracking.uri
    assert loaded.config.steps == 12
    assert SECRET not in str(loaded.resolved)
    assert SECRET not in loaded.to_yaml()
    assert loaded.resolved["names"] == ["a", "${oc.env:TRACKER_TOKEN}"]
    assert loaded.resolved["headers"]["Authorization"] == "Bearer ${oc.env:TRACKER_TOKEN}"

    stored = tmp_path / "stored.yaml"
    stored.write_text(loaded.to_yaml())
    again = load(stored, [], Config)
    assert again.config == loaded.config
    assert again.resolved == loaded.resolved


def test_overrides_can_contain_references(file: Path) -> None:
    loaded = load(file, ["path=https://host/?token=${oc.env:TRACKER_TOKEN}"], Config)
    assert loaded.config.path == f"https://host/?token={SECRET}"
    assert SECRET not in loaded.to_yaml()


@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{SECRET}@host",
        f"postgresql+psycopg2://me:{SECRET}@host/db",
        f"http://:{SECRET}@host",
        f"https://host/path?token={SECRET}",
        f"postgresql://host/db?user=me&password={SECRET}",
        f"https://host/?API_KEY={SECRET}",
        f"http://me:a/{SECRET}@host",
        f'http://me:"{SECRET}@host',
        f"http://me:{SECRET}#a?b@host",
        f"http://me:${{oc.env:TRACKER_TOKEN,{SECRET}}}@host",
        f"https://host/shards?X-Amz-Expires=60&X-Amz-Signature={SECRET}",
        f"https://host/shards?sv=2024&sig={SECRET}",
        f"https://host/?access-key={SECRET}",
        f"https://host/?key={SECRET}",
        f"postgresql://host/db?user=me&pass={SECRET}",
        f"https://host/#access_token={SECRET}",
        f"mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3D{SECRET}",
        f"mssql+pyodbc://host/db;Password={SECRET}",
    ],
)
@pytest.mark.parametrize("place", ["file", "override", "list"])
def test_plain_text_passwords_are_refused_and_not_shown(file: Path, uri: str, place: str) -> None:
    overrides = {"file": [], "override": [f"tracking.uri={uri}"], "list": [f"names=['{uri}']"]}[place]
    if place == "file":
        file.write_text(f"tracking: {{uri: '{uri}'}}\n")
    with pytest.raises(ConfigError, match="contains a password, which would be stored in plain text") as caught:
        load(file, overrides, Config)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="contains a password") as caught:
        resolve(uri)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a@b",
        "http://[::1]:5000/a@b",
        "http://host:80?a@b",
        "sqlite:///runs/mlflow.db",
        "http://user@host",
        "a: b@c",
        "http://me:***@host",
        "C:/a@b",
        "https://host/?monkey=1&keys=2&max_tokens=3&author=4",
        "see 'http://a:80' and b@c",
    ],
)
def test_other_values_are_accepted_and_shown(text: str) -> None:
    require_no_password(text)
    assert mask(text) == text


def test_other_errors_do_not_show_a_password(file: Path) -> None:
    """This override fails because of its type, before the password in it is detected."""
    with pytest.raises(ConfigError) as caught:
        load(file, [f"tracking=http://me:{SECRET}@host"], Config)
    assert SECRET not in str(caught.value)
    assert SECRET not in mask(f"connecting with {SECRET} failed")


def test_a_password_is_hidden_whatever_its_variable_is_called(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The characters of the password may be written differently in a URL."""
    monkeypatch.setenv("TRACKER_USER_2", "p/w 'x%41")
    loaded = load(file, ["tracking.uri=http://me:${oc.env:TRACKER_USER_2}@host"], Config)
    assert loaded.config.tracking.uri == "http://me:p/w 'x%41@host"
    for spelling in ("p/w 'x%41", "p/w 'xA", "p%2Fw%20%27x%2541"):
        assert mask(f"no port {spelling}!") == "no port ***!"


def test_missing_variables_are_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKER_TOKEN")
    with pytest.raises(ConfigError, match="TRACKER_TOKEN"):
        load(file, [], Config)
