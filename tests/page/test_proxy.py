"""The page behind Debian's nginx, under a path of its own, and pages that attack the service from a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from testkit.http import submit
from testkit.processes import Stack, eventually, free_port
from testkit.workerless import WorkerlessApi
from tests.page.visitor import Visitor

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
# nginx's defaults, and gzip for everything.
CONFIGURATION = """\
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; {user}
events {{ worker_connections 64; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    gzip on; gzip_proxied any; gzip_min_length 1; gzip_types *;
    server {{
        listen 127.0.0.1:{port};
        location /pano/ {{ proxy_pass {upstream}/; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def proxied(studio: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the studio behind nginx."""
    if NGINX is None:
        pytest.skip("nginx is not installed: `apt-get install nginx-light`")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, upstream=studio.url, user=user))
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "early.log")])
    url = f"http://127.0.0.1:{port}/pano"
    eventually(lambda: _answers(url) or process.poll() is not None, 10, "nginx answers")
    yield url
    process.terminate()
    process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def test_the_page_paints_under_a_path_with_live_events(page: Page, proxied: str) -> None:
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    visitor = Visitor(page, proxied)
    visitor.open()
    visitor.paint("hills behind a proxy", steps=30)
    expect(page.locator("#preview")).to_be_visible(timeout=60_000)
    expect(visitor.detail).to_contain_text("of 30")
    expect(visitor.viewer).to_be_visible(timeout=120_000)
    expect(visitor.card("hills behind a proxy").locator("img")).to_have_js_property("complete", True)
    assert failed == []
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.get_by_role("heading", name="MultiDiffusion panoramas")).to_be_visible(timeout=30_000)


def test_events_arrive_as_they_happen_also_compressed(studio: Stack, proxied: str) -> None:
    with httpx.Client(base_url=studio.url) as http:
        job = submit(http, width=1024, height=512, num_inference_steps=40)
    began = time.monotonic()
    arrived = []
    with httpx.stream(
        "GET", f"{proxied}/jobs/{job['id']}/events", headers={"accept-encoding": "gzip"}, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("event:"):
                arrived.append(time.monotonic() - began)
    assert len(arrived) > 10
    assert arrived[0] < arrived[-1] / 2, "the first came while the last was still to be made"


class _Attacker(BaseHTTPRequestHandler):
    page = ""

    def do_GET(self) -> None:
        body = self.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def attacker() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"  # another site than 127.0.0.1
    server.shutdown()
    server.server_close()


def test_another_sites_form_cancels_no_job(browser: Browser, workerless: WorkerlessApi, attacker: str) -> None:
    job = workerless.submit()
    cancel = f"{workerless.stack.url}/jobs/{job['id']}/cancel"
    _Attacker.page = f"""<form method=post action="{cancel}"></form><script>document.forms[0].submit()</script>"""
    with browser.new_context() as context:
        page = context.new_page()
        with page.expect_response(cancel) as answer:
            page.goto(attacker)
        assert answer.value.status == 403
    assert workerless.get(job["id"])["state"] == "queued"


def test_a_rebound_name_reaches_nothing(browser: Browser, workerless: WorkerlessApi, tmp_path: Path) -> None:
    port = workerless.stack.url.rpartition(":")[2]
    options = ["--host-resolver-rules=MAP rebound.example 127.0.0.1"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    engine = browser.browser_type
    from tests.page.conftest import CHROMIUM

    with engine.launch_persistent_context(tmp_path / "profile", executable_path=CHROMIUM, args=options) as context:
        page = context.new_page()
        answer = page.goto(f"http://rebound.example:{port}/")
        assert answer is not None
        assert answer.status == 421
        statuses = page.evaluate(
            "Promise.all(['/webhooks/secret', '/jobs', '/models'].map(async (path) => (await fetch(path)).status))"
        )
        assert statuses == [421, 421, 421]
