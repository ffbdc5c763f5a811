"""A headless Chromium from Debian, and a service with the demo model."""

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
NO_CHROMIUM = "Chromium is not installed: `apt-get install chromium`"


# Not for the whole session, because Playwright's running event loop breaks other tests that use asyncio.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=CHROMIUM, args=options) as running:
            yield running


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service with the demo model and one worker."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with running_stack(tmp_path_factory.mktemp("studio"), "demo") as running:
        yield running


@pytest.fixture
def context_options() -> dict[str, Any]:
    """Settings of the browser context. A module or a class may override this fixture."""
    return {"viewport": {"width": 1200, "height": 800}}


@pytest.fixture
def page(browser: Browser, context_options: dict[str, Any]) -> Iterator[Page]:
    """A page in a fresh profile. Script errors and violations of the security policy fail the test."""
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
    """A user who has just opened the page."""
    visitor = Visitor(page, studio.url)
    visitor.open()
    return visitor
