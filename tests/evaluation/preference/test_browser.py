"""Tests a study in a real browser: keyboard, reloads, the back button, two tabs, two raters, and a phone screen."""

import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evaluation.preference.web.serve import application
from pocketdit.serving.ports import listen
from pocketdit.serving.server import running
from tests.evaluation.preference.conftest import Created
from tests.evaluation.preference.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OVERRIDES = ("pairs_per_rater=8", "ties=true")  # ten comparisons, including two checks


@pytest.fixture
def address(created: Created) -> Iterator[str]:
    """The address of a server in this process that serves the study."""
    loaded, store = created(*OVERRIDES)
    listener = listen("127.0.0.1", 8700)
    port = listener.getsockname()[1]
    with running(application(loaded.config, store, "127.0.0.1"), listener):
        yield f"http://127.0.0.1:{port}"


def database_of(tmp_path: Path) -> Path:
    return tmp_path / "out" / "studies" / "test" / "study.db"


def stored(tmp_path: Path) -> list[tuple[int, int, str, str]]:
    """Return (rater, position, question, choice) for every stored answer."""
    with sqlite3.connect(database_of(tmp_path)) as database:
        return database.execute(
            "SELECT r.number, c.position, a.question, a.choice FROM preference_answer a JOIN preference_comparison c "
            "ON c.id = a.comparison JOIN preference_rater r ON r.id = c.rater ORDER BY 1, 2, 3"
        ).fetchall()


def start(page: "Page", address: str) -> list[str]:
    """Open the study, start it, and return a list to which the page's errors will be added."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.get_by_role("button", name="Start").press("Enter")
    page.wait_for_url("**/compare/*")
    return problems


def position(page: "Page") -> int:
    match = re.fullmatch(r"Pair (\d+) of 10", page.title())
    assert match is not None, page.title()
    return int(match[1])


def press(page: "Page", *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def turn(page: "Page", key: str = "Enter") -> None:
    """Press a key that leads to another page, and wait for that page."""
    with page.expect_navigation():
        page.keyboard.press(key)


def checked(page: "Page") -> list[str]:
    return [str(value) for value in page.eval_on_selector_all(":checked", "all => all.map(one => one.value)")]


def test_ten_pairs_by_keyboard_with_reload_back_and_second_tab(
    browser: "Browser", address: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    context = browser.new_context()
    page = context.new_page()
    problems = start(page, address)
    for number in (1, 2, 3):
        assert position(page) == number
        press(page, "ArrowLeft", "ArrowRight", "0")
        turn(page)
    # A reload in the middle of a pair keeps the answers given so far.
    press(page, "ArrowRight", "ArrowLeft")
    page.get_by_text("Saved.").wait_for()
    page.reload()
    assert (position(page), checked(page)) == (4, ["right", "left"])
    press(page, "ArrowLeft")
    assert checked(page) == ["right", "left", "left"]
    turn(page)
    # The back button shows the answers of the previous pair, and one of them is changed.
    page.go_back()
    page.wait_for_url("**/compare/*")
    assert (position(page), checked(page)) == (4, ["right", "left", "left"])
    page.locator("fieldset").nth(2).focus()
    press(page, "ArrowRight")
    assert checked(page) == ["right", "left", "right"]
    turn(page)
    assert position(page) == 5
    # A second tab continues at the same pair, and overwrites only the answers that are changed in it.
    other = context.new_page()
    other.goto(f"{address}/next")
    assert position(other) == 5
    press(other, "ArrowLeft", "ArrowLeft", "ArrowLeft")
    other.get_by_text("Saved.").wait_for()
    press(page, "ArrowRight")
    page.get_by_text("Saved.").wait_for()
    page.reload()
    assert checked(page) == ["right", "left", "left"]
    turn(page)
    turn(other)
    assert position(page) == position(other) == 6
    press(other, "B")
    expect(other).to_have_title(re.compile("^Pair 5"))
    other.close()
    for number in range(6, 11):
        assert position(page) == number
        press(page, "1", "2", "0")
        turn(page)
    page.get_by_text("all answers are stored").wait_for()
    rows = stored(tmp_path)
    assert [row[:3] for row in rows] == [
        (0, place, question) for place in range(10) for question in ("alignment", "fidelity", "realism")
    ]
    by_place = {
        place: {question: choice for _, other, question, choice in rows if other == place} for place in range(10)
    }
    usual = {"realism": "left", "fidelity": "right", "alignment": "tie"}
    assert by_place[3] == {"realism": "right", "fidelity": "left", "alignment": "right"}
    assert by_place[4] == {"realism": "right", "fidelity": "left", "alignment": "left"}
    assert all(by_place[place] == usual for place in range(10) if place not in (3, 4))
    assert problems == []
    context.close()


@pytest.mark.slow
def test_two_raters_at_once_with_double_clicks(browser: "Browser", address: str, tmp_path: Path) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    problems = [start(page, address) for page in pages]
    for number in range(1, 11):
        for page, side in zip(pages, ("Left", "Right"), strict=True):
            assert position(page) == number
            for choice in page.get_by_label(side, exact=True).all():
                choice.dblclick()
            with page.expect_navigation():
                page.get_by_role("button", name="Next").dblclick()
    for page in pages:
        page.get_by_text("all answers are stored").wait_for()
    rows = stored(tmp_path)
    assert len(rows) == len({row[:3] for row in rows}) == 60
    assert {(rater, choice) for rater, _, _, choice in rows} == {(0, "left"), (1, "right")}
    assert problems == [[], []]
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_killed_server_loses_nothing_and_the_page_goes_on(
    browser: "Browser", created: Created, file: Path, tmp_path: Path
) -> None:
    created(*OVERRIDES)
    with serving(file, 8710, *OVERRIDES) as server:
        kill_in_the_middle(browser, server, tmp_path)


def kill_in_the_middle(browser: "Browser", server: Server, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    start(page, server.address)
    press(page, "ArrowLeft")
    page.get_by_text("Saved.").wait_for()
    server.stop(signal.SIGKILL)
    press(page, "ArrowRight", "ArrowLeft")
    page.get_by_text("Not saved yet. Trying again").wait_for()
    assert len(stored(tmp_path)) == 1
    server.start()
    page.get_by_text("Saved.", exact=True).wait_for()
    turn(page)
    assert position(page) == 2
    assert [(question, choice) for _, _, question, choice in stored(tmp_path)] == [
        ("alignment", "left"), ("fidelity", "right"), ("realism", "left"),
    ]  # fmt: skip
    assert "All answers are stored" in server.stop(signal.SIGINT)
    context.close()


def test_phone(browser: "Browser", address: str, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    problems = start(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    left, right = (page.get_by_alt_text(f"The {side} image").bounding_box() for side in ("left", "right"))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert min(left["width"], right["width"]) > 170
    for label in page.locator(".choices label").all():
        box = label.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44  # large enough for a thumb
        assert box["x"] + box["width"] <= 390
    page.get_by_alt_text("The right image").tap()
    page.get_by_alt_text("The right image, enlarged").wait_for()
    page.get_by_role("button", name="Close").tap()
    for choice in page.locator("label", has_text="Right").all():
        choice.tap()
    page.get_by_text("Saved.").wait_for()
    with page.expect_navigation():
        page.get_by_role("button", name="Next").tap()
    assert position(page) == 2
    assert len(stored(tmp_path)) == 3
    assert problems == []
    context.close()


def test_script_in_a_prompt_is_text(browser: "Browser", address: str, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    for _ in range(2):  # with this seed, the second rater sees the prompt with the script
        context.clear_cookies()
        problems = start(page, address)
    with sqlite3.connect(database_of(tmp_path)) as database:
        query = "SELECT c.id FROM preference_comparison c JOIN preference_rater r ON r.id = c.rater"
        (identifier, *_) = database.execute(f"{query} WHERE c.prompt = 0 AND r.number = 1").fetchone()
    page.goto(f"{address}/compare/{identifier}")
    assert page.locator("#prompt").inner_text().startswith("<script>document.title = 'hacked'</script><img")
    assert page.title().startswith("Pair ")
    assert problems == []
    context.close()
