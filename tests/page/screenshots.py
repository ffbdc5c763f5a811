"""`python -m tests.page.screenshots [FOLDER]` takes the screenshots in the documents again."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from testkit.processes import ROOT, running_stack
from tests.page.conftest import CHROMIUM, NO_CHROMIUM
from tests.page.visitor import Visitor

DESKTOP = {"width": 1200, "height": 820}
PHONE = {"width": 390, "height": 844}
PROMPTS = ("a city skyline at dusk by the water", "hills at noon", "ocean at sunset")
SHOWN = "mountains in the morning by a lake"


def main() -> None:
    """Paint a few panoramas and take the screenshots."""
    parser = argparse.ArgumentParser(prog="python -m tests.page.screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().folder
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.wait_for_timeout(500)  # until all transitions have ended
        page.screenshot(path=folder / f"page-{name}.jpg", type="jpeg", quality=82)

    with (
        tempfile.TemporaryDirectory() as data,
        running_stack(Path(data), "demo") as stack,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        with browser.new_context(viewport=DESKTOP, color_scheme="light") as context:
            page = context.new_page()
            visitor = Visitor(page, stack.url)
            visitor.open()
            keep(page, "empty")
            for prompt in PROMPTS:
                visitor.paint(prompt, width=2048, steps=20, seed=7)
                visitor.viewer.wait_for(timeout=120_000)
            page.get_by_text("More settings").click()
            page.get_by_label("Prompt", exact=True).fill(SHOWN)
            page.get_by_role("button", name="Paint", exact=True).click()
            for step in (r"[0-2]", r"1[1-5]"):  # wait for the new job; at first the bar shows the job before
                expect(visitor.progress).to_have_attribute("data-step", re.compile(f"^{step}$"), timeout=60_000)
            keep(page, "preview")
            visitor.viewer.wait_for(timeout=120_000)
            keep(page, "viewer")
            address = page.url.removeprefix(stack.url)
        phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
        with browser.new_context(**phone, device_scale_factor=2) as context:  # type: ignore[arg-type]
            visitor = Visitor(context.new_page(), stack.url)
            visitor.open(address)
            visitor.viewer.wait_for(timeout=60_000)
            keep(visitor.page, "phone")


if __name__ == "__main__":
    main()
