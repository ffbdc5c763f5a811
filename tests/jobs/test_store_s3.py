"""The image store in a bucket: a server of S3's protocol that is not Amazon's, over http and over TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.object_store import Connection
from jobs.settings import Settings
from jobs.signed_urls import SignedUrls
from jobs.store import ImageMissing, ImageStore, StoreError
from testkit.proxy import proxy_to
from testkit.s3_server import S3Server, s3_server

URL = "s3://pictures/some/prefix"
JOB = "0" * 32

pytestmark = pytest.mark.slow  # the server imports for seconds


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_store_over_http_needs_its_endpoint_and_no_second_variable(environment: pytest.MonkeyPatch) -> None:
    store = ImageStore.of(Settings())
    image = store.put(JOB, "1", b"0123456789")
    assert asyncio.run(store.get(image.key, image.sha256)) == b"0123456789"
    assert asyncio.run(store.get_part(image.key, 2, 4)) == b"234"
    asyncio.run(store.check_size(image.key, 10))
    asyncio.run(store.check())
    assert [found.key for page in store.older_than(-5) for found in page] == [image.key]
    store.delete_job(JOB)
    with pytest.raises(ImageMissing):
        asyncio.run(store.get_part(image.key, 2, 4))
    with pytest.raises(ImageMissing):
        asyncio.run(store.check_size(image.key, 10))


def test_nothing_in_a_bucket_is_overwritten(environment: pytest.MonkeyPatch) -> None:
    store = ImageStore(URL)
    image = store.put(JOB, "2", b"first")
    assert store.put(JOB, "2", b"first") == image, "the answer to the first call may have been lost"
    with pytest.raises(StoreError, match="other bytes"):
        store.put(JOB, "2", b"second")
    assert asyncio.run(store.get(image.key, image.sha256)) == b"first"


def test_a_store_over_tls_is_trusted_by_its_own_authority_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with s3_server(tmp_path, tls=True) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError, match="cannot be stored"):
            ImageStore.of(Settings()).put(JOB, "1", b"png")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(server.ca))
        image = ImageStore.of(Settings()).put(JOB, "1", b"png")
        monkeypatch.delenv("AWS_CA_BUNDLE")
        monkeypatch.setenv("PANORAMAS_STORE_CA", str(server.ca))
        assert asyncio.run(ImageStore.of(Settings()).get(image.key, image.sha256)) == b"png"


def test_an_address_is_signed_for_the_endpoint_that_clients_use(environment: pytest.MonkeyPatch, s3: S3Server) -> None:
    image = ImageStore(URL).put(JOB, "3", b"0123456789")
    address = asyncio.run(SignedUrls(URL, Connection()).sign(image.key))
    assert address
    part = httpx.get(address, headers={"range": "bytes=2-4"})
    assert (part.content, part.headers["content-type"]) == (b"234", "image/png")
    outside = asyncio.run(SignedUrls(URL, Connection(), "https://pictures.example").sign(image.key))
    assert outside
    assert outside.startswith(f"https://pictures.example/pictures/some/prefix/{image.key}?")


def test_a_store_that_is_away_or_hangs_is_an_error_in_time_and_is_used_again_when_it_is_back(
    environment: pytest.MonkeyPatch, s3: S3Server
) -> None:
    with proxy_to(s3.url) as proxy:
        environment.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = ImageStore(URL, connection=Connection(seconds=1.0))
        image = store.put(JOB, "4", b"png")
        for fault in (proxy.swallow, proxy.refuse):
            fault()
            for call in (
                lambda: store.put(JOB, "5", b"png"),
                lambda: store.delete_job(JOB),
                lambda: list(store.older_than(0)),
                store.probe,
                lambda: asyncio.run(store.get(image.key, image.sha256)),
                lambda: asyncio.run(store.get_part(image.key, 0, 1)),
                lambda: asyncio.run(store.check()),
            ):
                began = time.monotonic()
                with pytest.raises(StoreError) as raised:
                    call()
                assert time.monotonic() - began < 2
                assert "\n" not in str(raised.value)
        proxy.resume()
        assert asyncio.run(store.get(image.key, image.sha256)) == b"png"
