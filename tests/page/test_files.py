"""The page's static files: what they may load, how they are cached, and their size."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import httpx
import pytest

from service.web_page import FOLDER, files
from testkit.workerless import WorkerlessApi

PAGE_FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
TEXT = [path for path in PAGE_FILES if path.suffix in {".html", ".js", ".css", ".svg"}]
LOADED_LATER = {"recipe.js", "viewer.js", "docs.html", "docs.js"}  # loaded with the first job, or by the documentation


@pytest.fixture
def page(workerless: WorkerlessApi) -> httpx.Response:
    return workerless.http.get("/")


def test_the_page_may_load_only_its_own_files(page: httpx.Response) -> None:
    policy = dict(part.split(maxsplit=1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", TEXT, ids=lambda path: path.name)
def test_no_file_refers_to_another_host_or_contains_inline_code(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/", "")  # an XML namespace is not loaded
    assert not re.search(r"https?://|[\"'(]//\w", text)
    assert not re.search(r"[\"'(]data:", text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text)
    if path.suffix == ".js":
        assert not re.search(r"\beval\(|\bnew Function|innerHTML|insertAdjacentHTML|document\.write", text)


def test_the_first_screen_is_small() -> None:
    sent = [
        files().by_name[path.name].zipped or path.read_bytes() for path in PAGE_FILES if path.name not in LOADED_LATER
    ]
    assert sum(map(len, sent)) < 30_000


def test_files_are_cached_for_ever_under_a_url_with_their_version(
    workerless: WorkerlessApi, page: httpx.Response
) -> None:
    assert page.headers["cache-control"] == "no-cache"
    addresses = set(re.findall(r'(?:href|src)="(page/[^"]+)"', page.text))
    assert {Path(address).name for address in addresses} >= {"main.js", "style.css", "icon.svg"}
    for address in addresses:
        answer = workerless.http.get(address)
        assert answer.is_success, address
        assert "immutable" in answer.headers["cache-control"]
        assert f"/{files().version}/" in address
    other = workerless.http.get(f"/page/{'0' * 18}/main.js")
    assert other.is_success
    assert other.headers["cache-control"] == "no-store", "the URL of another version must not cache this content"


def test_a_page_that_has_not_changed_is_not_sent_again(workerless: WorkerlessApi, page: httpx.Response) -> None:
    again = workerless.http.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    assert not again.content
    assert again.headers["content-security-policy"] == page.headers["content-security-policy"]


def test_text_is_compressed_if_the_client_accepts_it(workerless: WorkerlessApi) -> None:
    address = f"/page/{files().version}/style.css"
    compressed = workerless.http.get(address, headers={"Accept-Encoding": "gzip"})
    plain = workerless.http.get(address, headers={"Accept-Encoding": "identity"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert compressed.text == plain.text == (FOLDER / "style.css").read_text()
    assert compressed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fpage.py", "%2e%2e%2fapp.py"])
def test_other_files_are_not_served(workerless: WorkerlessApi, name: str) -> None:
    answer = workerless.http.get(f"/page/{files().version}/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_documentation_loads_nothing_from_another_host(workerless: WorkerlessApi) -> None:
    docs = workerless.http.get("/docs")
    assert "script-src 'self';" in docs.headers["content-security-policy"]
    addresses = re.findall(r'(?:href|src)="([^"]+)"', docs.text)
    assert addresses
    for address in addresses:
        assert address.startswith("page/")
        assert workerless.http.get(address).is_success


def test_every_referenced_file_exists() -> None:
    names = {path.name for path in PAGE_FILES}
    for path in PAGE_FILES:
        if path.suffix in {".js", ".html"}:
            named = re.findall(r"from \"\./([^\"]+)\"|import\(\"\./([^\"]+)\"\)|@version/([^\"]+)", path.read_text())
            assert {name for found in named for name in found if name} <= names | {
                "swagger-ui.css",
                "swagger-ui-bundle.js",
            }


def test_the_page_is_in_the_wheel(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    [built] = WheelBuilder(str(FOLDER.parents[1])).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        assert {f"service/page/{path.name}" for path in PAGE_FILES} <= set(wheel.namelist())
