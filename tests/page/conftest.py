"""A headless Chromium, Debian's own, and a service to paint with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from testkit.processes import Stack, running_stack
from tests.page.visitor import Visitor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NONE = "no Chromium here: `apt-get install chromium` brings Debian's"


# Not for the whole session: Playwright's event loop would be in the way of other tests' own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(NONE)
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=CHROMIUM, args=options) as running:
            yield running


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service with the demo model and one worker."""
    if CHROMIUM is None:
        pytest.skip(NONE)
    with running_stack(tmp_path_factory.mktemp("studio"), "demo") as running:
        yield running


@pytest.fixture
def context_options() -> dict[str, Any]:
    """How the browser is set up; a module or a test may say otherwise."""
    return {"viewport": {"width": 1200, "height": 800}}


@pytest.fixture
def page(browser: Browser, context_options: dict[str, Any]) -> Iterator[Page]:
    """A fresh browser profile. What its console calls an error fails the test."""
    context = browser.new_context(**context_options)
    context.set_default_timeout(30_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
    yield page
    context.close()
    assert not errors


@pytest.fixture
def visitor(page: Page, studio: Stack) -> Visitor:
    """Somebody who has just opened the page."""
    visitor = Visitor(page, studio.url)
    visitor.open()
    return visitor
