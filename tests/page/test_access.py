"""Accessibility: keyboard, small screens, screen readers, dark mode. And the dialog for an API key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from testkit.processes import Stack, running_stack
from tests.page.visitor import Visitor


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing."""
    page.wait_for_timeout(400)  # colours in transition would fail the contrast check
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(browser: Browser, studio: Stack, scheme: Any) -> None:
    with browser.new_context(viewport={"width": 1200, "height": 800}, color_scheme=scheme) as context:
        visitor = Visitor(context.new_page(), studio.url)
        visitor.open()
        assert_accessible(visitor.page)
        visitor.fill("accessible hills", width=1001)
        visitor.page.get_by_role("button", name="Paint", exact=True).click()
        expect(visitor.page.get_by_label("Width")).to_have_attribute("aria-invalid", "true")
        assert_accessible(visitor.page)
        visitor.paint("accessible hills", steps=100)
        expect(visitor.page.locator("#preview")).to_be_visible(timeout=30_000)
        assert_accessible(visitor.page)
        visitor.page.get_by_role("button", name="Cancel", exact=True).click()
        expect(visitor.page.get_by_role("heading", name="Canceled")).to_be_visible()
        assert_accessible(visitor.page)
        visitor.paint("accessible hills at noon", steps=2)
        expect(visitor.viewer).to_be_visible(timeout=60_000)
        assert_accessible(visitor.page)
        visitor.page.get_by_role("button", name="Delete: accessible hills at noon").first.click()
        expect(visitor.page.get_by_role("dialog")).to_be_visible()
        assert_accessible(visitor.page)


def test_the_keyboard_alone_can_paint_and_view_a_panorama(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    keyboard.press("Tab")
    expect(visitor.page.get_by_role("link", name="Skip to the prompt")).to_be_focused()
    keyboard.press("Enter")
    expect(visitor.page.get_by_label("Prompt", exact=True)).to_be_focused()
    keyboard.type("hills by keys alone")
    keyboard.press("Enter")
    visitor.page.wait_for_url("**/#/jobs/*")
    expect(visitor.viewer).to_be_visible(timeout=90_000)
    for _ in range(60):
        if visitor.viewer.evaluate("element => element === document.activeElement"):
            break
        keyboard.press("Shift+Tab")
    for _ in range(4):
        keyboard.press("+")
    x = visitor.position()[0]
    keyboard.press("ArrowRight")
    assert visitor.position()[0] != x


class TestPhone:
    @pytest.fixture
    def context_options(self) -> dict[str, Any]:
        return {"viewport": {"width": 375, "height": 667}, "is_mobile": True, "has_touch": True}

    def test_a_phone_shows_everything(self, visitor: Visitor) -> None:
        fits_width = "document.documentElement.scrollWidth <= innerWidth"
        assert visitor.page.evaluate(fits_width)
        visitor.paint("hills on a phone", steps=2)
        expect(visitor.viewer).to_be_visible(timeout=60_000)
        assert visitor.page.evaluate(fits_width)
        expect(visitor.viewer).to_be_in_viewport(ratio=0.9)
        small = visitor.page.locator("button:visible, select:visible, input[type=number]:visible").evaluate_all(
            "all => all.filter(each => each.getBoundingClientRect().height < 24).map(each => each.outerHTML)"
        )
        assert not small, "WCAG 2.2, 2.5.8: targets are at least 24 px high"


@pytest.fixture
def locked(tmp_path_factory: pytest.TempPathFactory, studio: Stack) -> Iterator[Stack]:
    """A service with API keys and without a worker."""
    keys = f"me:{hashlib.sha256(b'a secret').hexdigest()}"
    with running_stack(tmp_path_factory.mktemp("locked"), "demo", workers=0, PANORAMAS_API_KEYS=keys) as running:
        yield running


def test_the_page_asks_for_a_key_if_the_server_needs_one(page: Page, locked: Stack) -> None:
    page.goto(locked.url)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert_accessible(page)
    dialog.get_by_label("API key").fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_role("alert")).to_have_text("The server does not know this key.")
    dialog.get_by_label("API key").fill("a secret")
    dialog.get_by_role("button", name="Use this key").click()
    visitor = Visitor(page, locked.url)
    visitor.paint("a locked city")
    expect(visitor.detail).to_contain_text("next in line")
    page.reload()
    expect(visitor.detail).to_contain_text("next in line")
    expect(dialog).to_be_hidden()
