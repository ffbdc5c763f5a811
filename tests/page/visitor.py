"""What a visitor does and sees, by the names that the page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

JOB = re.compile(r"#/jobs/([0-9a-f]{32})$")


@dataclass(frozen=True)
class Visitor:
    """A user of the page."""

    page: Page
    url: str

    def open(self, path: str = "/") -> None:
        self.page.goto(self.url + path)
        expect(self.page.locator("html[data-ready]")).to_have_count(1)

    def fill(self, prompt: str, *, width: int = 1024, steps: int = 6, circular: bool = False, seed: int = 7) -> None:
        page = self.page
        page.get_by_label("Prompt", exact=True).fill(prompt)
        page.get_by_label("Width").fill(str(width))
        page.get_by_label("Height").fill("512")
        page.get_by_label("Seed").fill(str(seed))
        page.get_by_label("All the way round").set_checked(circular)
        if not page.get_by_label("Steps").is_visible():
            page.get_by_text("More settings").click()
        page.get_by_label("Steps").fill(str(steps))

    def paint(self, prompt: str, **fields: object) -> str:
        """Submit a panorama; the job's id."""
        self.fill(prompt, **fields)  # type: ignore[arg-type]
        before = self.page.url
        self.page.get_by_role("button", name="Paint", exact=True).click()
        self.page.wait_for_function("before => location.href !== before", arg=before)
        return self.job_id

    @property
    def job_id(self) -> str:
        found = JOB.search(self.page.url)
        assert found, self.page.url
        return found[1]

    @property
    def viewer(self) -> Locator:
        return self.page.get_by_role("application")

    @property
    def progress(self) -> Locator:
        return self.page.get_by_role("progressbar", name="Progress of the painting")

    @property
    def phase(self) -> Locator:
        """What happens now."""
        return self.page.locator("#phase")

    @property
    def detail(self) -> Locator:
        """The text beside the phase: the step, and the time left."""
        return self.page.locator("#detail")

    def card(self, prompt: str) -> Locator:
        """The newest card in the gallery with this prompt."""
        return self.page.get_by_role("listitem").filter(has_text=prompt).first

    def position(self) -> tuple[float, float, float]:
        """The picture's pixel in the middle of the viewer, and the scale."""
        x, y, scale = (float(self.viewer.get_attribute(f"data-{name}") or "nan") for name in ("x", "y", "scale"))
        return x, y, scale
