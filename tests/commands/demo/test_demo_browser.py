"""Tests the playground in Chromium: sampling, canceling, links, phone screens, and the absence of external requests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pocketdit.commands.demo.subjects import Subject
from tests.commands.demo.conftest import Playground, running_playground

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SETTINGS = "?prompt=a+red+circle&steps=2&size=64x64"
PHONE = {"width": 390, "height": 844}
STYLE = Path(__file__).parents[3] / "platform" / "pocketdit" / "commands" / "demo" / "page" / "page.css"


@pytest.fixture(scope="module")
def playground(subjects: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with running_playground(subjects, tmp_path_factory.mktemp("playground")) as running:
        yield running


@pytest.fixture
def page(browser: "Browser", playground: Playground) -> Iterator["Page"]:
    """A browser page. The test fails if the page requests anything from another host or reports an error."""
    context = browser.new_context()
    page = context.new_page()
    outside: list[str] = []
    errors: list[str] = []
    context.on(
        "request", lambda request: None if request.url.startswith(playground.url) else outside.append(request.url)
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    refused = "status of 400"  # Chromium also logs responses with this status, whose messages the page shows
    page.on("console", lambda log: errors.append(log.text) if log.type == "error" and refused not in log.text else None)
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.set_default_timeout(30_000)
    yield page
    context.close()
    assert outside == []
    assert errors == []


def sample(page: "Page") -> None:
    page.get_by_role("button", name="Sample", exact=True).click()
    page.get_by_role("status").filter(has_text="Done.").wait_for()


def test_samples_two_widths_and_restores_the_settings_from_the_link(page: "Page", playground: Playground) -> None:
    from playwright.sync_api import expect

    page.goto(playground.url + SETTINGS)
    page.get_by_label("Prompts").fill("a red circle\n\n<img src=x onerror=alert(1)>\n")
    page.get_by_label("Seed").fill("5")
    page.get_by_label("Sampler").first.select_option("heun")
    page.get_by_label("Guidance").first.fill("2.5")
    page.get_by_label("Decoder").first.select_option("tiny_decoder/d")
    sample(page)
    images = page.locator("#rows img")
    assert images.count() == 4
    assert page.locator("#rows h3").all_inner_texts() == ["a red circle", "<img src=x onerror=alert(1)>"]
    # The Content Security Policy forbids evaluating strings. wait_for_function does so, but expect does not.
    for image in images.all():
        expect(image).to_have_js_property("naturalWidth", 64)
        expect(image).to_have_js_property("naturalHeight", 64)
    assert all(
        re.fullmatch(r"(0.5|1)x in [\d.]+ s", text) for text in page.locator("#rows figcaption").all_inner_texts()
    )
    link = page.url
    fields = "form => [...new FormData(form)].map(([name, value]) => [name, value.trim()])"
    before = page.locator("form").evaluate(fields)
    page.goto("about:blank")
    page.goto(link)
    disabled = page.locator("[name='against.steps']:disabled")  # the page's script disables this field
    disabled.wait_for(state="attached")
    restored = page.locator("form").evaluate(fields)
    assert [pair for pair in restored if pair[0] != "prompt"] == [pair for pair in before if pair[0] != "prompt"]
    assert dict(restored)["prompt"].splitlines() == ["a red circle", "<img src=x onerror=alert(1)>"]
    assert page.locator("#pictures figure").count() >= 4
    with page.expect_navigation():
        page.get_by_role("link", name="Restore settings").first.click()
    disabled.wait_for(state="attached")
    assert page.locator("form").evaluate(fields) == restored


def test_compares_two_runs(page: "Page", playground: Playground) -> None:
    page.goto(playground.url + SETTINGS + "&width=1")
    assert page.locator("[name='against.steps']").is_disabled()
    page.get_by_label("Compare with elastic_pretrain/u").check()
    page.locator("[name='against.steps']").fill("1")
    page.locator("[name='against.width'][value='0.5']").uncheck()
    sample(page)
    captions = page.locator("#rows figcaption").all_inner_texts()
    assert [text.split("\n")[1] for text in captions] == ["elastic_pretrain/t", "elastic_pretrain/u"]
    page.get_by_text("Commands that sample the same images").click()
    commands = page.get_by_label("Commands").inner_text().splitlines()
    assert [command.split()[:3] for command in commands] == [
        ["lightning", "sample", "elastic_pretrain/t"],
        ["lightning", "sample", "elastic_pretrain/u"],
    ]
    page.reload()
    assert page.get_by_label("Compare with elastic_pretrain/u").is_checked()


def test_shows_progress_and_cancels_by_keyboard_on_a_phone(browser: "Browser", playground: Playground) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, color_scheme="dark")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(30_000)
    before = len(playground.gallery.pictures())
    page.goto(playground.url + "?prompt=a&size=64x64&steps=10000&width=0.5")
    page.get_by_label("Prompts").press("Control+Enter")
    page.locator("#step").filter(has_text="about").wait_for()
    text = page.locator("#step").inner_text()
    assert re.fullmatch(r"elastic_pretrain/t at 0.5x: step \d+ of 10000, about \d+(\.\d+)? (s|min) left", text)
    assert 0 < float(page.get_by_role("progressbar").get_attribute("value") or 0) < 10_000
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.get_by_role("button", name="Sample", exact=True).is_disabled()
    page.get_by_role("button", name="Cancel").press("Enter")
    page.get_by_role("status").filter(has_text="Canceled.").wait_for()
    assert page.get_by_role("button", name="Sample", exact=True).is_enabled()
    page.get_by_label("Steps").first.fill("1")
    sample(page)
    assert len(playground.gallery.pictures()) == before + 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


def test_wrong_settings_are_shown_and_leave_the_page_usable(page: "Page", playground: Playground) -> None:
    page.goto(playground.url + SETTINGS)
    page.get_by_label("Height x width").fill("64x65")
    with page.expect_response("**/sample"):
        page.get_by_role("button", name="Sample", exact=True).click()
    alert = page.get_by_role("alert").filter(has_text="multiples of 32 pixels")
    alert.wait_for()
    page.get_by_label("Height x width").fill("64x64")
    for box in page.locator("[name=width]").all():
        box.uncheck()
    page.get_by_role("button", name="Sample", exact=True).click()
    message = page.locator("[name=width]").first.evaluate("box => box.validationMessage")
    assert message == "Choose at least one width."
    page.locator("[name=width]").first.check()
    sample(page)
    assert page.get_by_role("alert").inner_text() == ""


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(page: "Page", playground: Playground) -> None:
    page.goto(playground.url)
    page.get_by_label("Compare with elastic_pretrain/u").check()
    controls = page.locator("input, select, textarea, button").all()
    names = page.locator("input, select, textarea").evaluate_all("all => all.map(one => one.labels.length)")
    assert all(count == 1 for count in names)
    enabled = [control for control in controls if control.is_enabled()]
    page.locator("textarea").focus()
    reached = {"TEXTAREA prompt"}
    describe = "one => `${one.tagName} ${one.name || one.id}${one.value && one.type === 'checkbox' ? one.value : ''}`"
    for _ in enabled:
        page.keyboard.press("Tab")
        reached.add(page.locator(":focus").evaluate(describe))
    assert {control.evaluate(describe) for control in enabled} <= reached


def luminance(color: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    light, dark = sorted(map(luminance, (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_enough_contrast_in_both_color_schemes() -> None:
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.S)
    ]
    assert len(schemes) == 2
    for colors in schemes:
        for text, ground in (("text", "page"), ("text", "panel"), ("muted", "page"), ("muted", "panel"),
                             ("error", "page"), ("accent", "page"), ("on-accent", "accent")):  # fmt: skip
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
