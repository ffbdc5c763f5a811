"""`python -m benchmarks.page`: how soon the page shows what happens, in a real browser with an idle, warm service.

Measured are the time from the click to the first preview, and from a step in the worker to the same step on the
screen. The id of the step's event in Redis has the worker's time; the browser uses the same machine's clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from benchmarks.results import progress
from testkit.processes import running_stack
from tests.page.conftest import CHROMIUM, NO_CHROMIUM
from tests.page.visitor import Visitor

WATCH = """() => {
  const bar = document.getElementById('progress');
  window.seen = {};
  new MutationObserver(() => (window.seen[bar.dataset.step] ??= performance.timeOrigin + performance.now()))
    .observe(bar, {attributes: true, attributeFilter: ['data-step']});
}"""


def main() -> None:
    """Paints `--runs` panoramas and prints medians and the worst."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    previews: list[float] = []
    steps: list[float] = []
    with (
        tempfile.TemporaryDirectory() as data,
        running_stack(Path(data), "demo") as stack,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
        stack.redis.client() as redis,
    ):
        visitor = Visitor(browser.new_page(), stack.url)
        visitor.open()
        for run in range(runs + 1):
            visitor.page.evaluate(WATCH)
            visitor.fill("hills at noon", width=2048, steps=20, seed=run)
            start = time.perf_counter()
            visitor.page.get_by_role("button", name="Paint", exact=True).click()
            visitor.page.wait_for_url("**/#/jobs/*")
            expect(visitor.page.locator("#preview")).to_be_visible(timeout=60_000)
            preview = time.perf_counter() - start
            expect(visitor.viewer).to_be_visible(timeout=120_000)
            if run == 0:  # not counted: the model was loaded during this one
                visitor.open()
                continue
            previews.append(preview)
            progress(f"{run} of {runs} panoramas")
            seen = visitor.page.evaluate("() => window.seen")
            for key in redis.scan_iter(match=f"*{visitor.job_id}*", _type="stream"):
                for event_id, fields in redis.xrange(key):
                    if (step := fields.get("step")) in seen and step != "0":
                        steps.append(seen[step] - int(event_id.split("-")[0]))
                        del seen[step]
            visitor.open()
    print(f"click to first preview: median {statistics.median(previews):.2f} s, worst {max(previews):.2f} s")
    if steps:
        print(
            f"step to screen: median {statistics.median(steps):.0f} ms, worst {max(steps):.0f} ms, {len(steps)} steps"
        )


if __name__ == "__main__":
    main()
