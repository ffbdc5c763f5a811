"""What a caller passes is checked before anything is sent, and an API key is never shown."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path

import pytest

from panoramas import APIConnectionError, AsyncClient, Client, InvalidArgumentError, PanoramasError
from testkit.http import submit_batch
from testkit.processes import free_port
from testkit.proxy import proxy_to
from testkit.workerless import WorkerlessApi

SECRET = "sk-5ecret"
NOT_IDS = ["", ".", "..", "a/b", "a?b", "a#b", "%2e%2e", "a%2Fb", "a\\b", "a b", "a\nb", "ü", "a" * 201]


@pytest.mark.parametrize(
    "key",
    [
        f"{SECRET}\n",
        f"{SECRET}\r\nX-Evil: 1",
        f" {SECRET}",
        f"{SECRET}ü",
        f"{SECRET}\0",
        f"{SECRET}\x7f",
        f"{SECRET}\t.",
    ],
)
def test_a_key_that_http_cannot_carry_is_refused_when_the_client_is_made_and_not_repeated(key: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="api_key") as refused:
            kind("http://127.0.0.1:9", api_key=key)
        assert isinstance(refused.value, PanoramasError)
        assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_key_from_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANORAMAS_API_KEY", f"{SECRET}\n")
    with pytest.raises(InvalidArgumentError, match="remove it"):
        Client()


def test_a_key_is_neither_logged_nor_kept_in_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{free_port()}"

    async def fail() -> None:
        async with AsyncClient(url, api_key=SECRET, patience=1) as client:
            await client.models()

    with Client(url, api_key=SECRET, patience=1, headers={"X-Other": SECRET}) as client:
        assert SECRET not in repr(client._connection)
        with pytest.raises(APIConnectionError) as told:
            client.submit("hills")
        with pytest.raises(APIConnectionError) as cut:
            next(client.events("a"))
    with pytest.raises(APIConnectionError) as told_too:
        asyncio.run(fail())
    assert "trying again" in caplog.text
    assert SECRET not in caplog.text
    for error in (told.value, cut.value, told_too.value):
        assert SECRET not in "".join(traceback.format_exception(error))
        request = error.__cause__.request  # type: ignore[union-attr]
        assert SECRET not in str(list(request.headers.raw))


def test_an_id_with_a_path_in_it_reaches_nothing_else(workerless: WorkerlessApi) -> None:
    batch = submit_batch(workerless.http, 2)
    with proxy_to(workerless.stack.url) as proxy, Client(proxy.url) as client:
        for job in (f"../batches/{batch['id']}", f"..%2Fbatches%2F{batch['id']}", *NOT_IDS):
            for method in (client.cancel, client.get, client.delete, client.wait, client.image, client.preview):
                with pytest.raises(InvalidArgumentError, match="not the id of a job"):
                    method(job)
            with pytest.raises(InvalidArgumentError, match="not the id of a job"):
                next(client.events(job))
            for method in (client.batch, client.cancel_batch, client.wait_batch):
                with pytest.raises(InvalidArgumentError, match="not the id of a batch"):
                    method(job)
        assert proxy.requests == []
    assert workerless.http.get(f"/batches/{batch['id']}").json()["counts"]["queued"] == 2


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:0",
        "http://host:port",
        "http://ho st\n",
        "http://a..b",
        f"http://{'a' * 70}.example",
        "http://[::1",
        "http://host/?a=b",
        "http://host/#part",
        f"http://user:{SECRET}@host",
        f"http://user:{SECRET}@host:port",
        f"user:{SECRET}@host",
    ],
)
def test_an_address_that_is_none_is_refused_when_the_client_is_made(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url") as refused:
        Client(url)
    assert SECRET not in str(refused.value)
    monkeypatch.setenv("PANORAMAS_URL", url)
    with pytest.raises(InvalidArgumentError, match="PANORAMAS_URL") as refused:
        AsyncClient()
    assert SECRET not in str(refused.value)


def test_addresses_may_have_a_path_and_be_of_version_six() -> None:
    for given, used in {
        "https://host/pano/": "https://host/pano",
        "http://[::1]:8000": "http://[::1]:8000",
        "HTTP://Host": "http://host",
        "http://hügel.example": "http://xn--hgel-0ra.example",
    }.items():
        with Client(given) as client:
            assert client._connection.base_url in (used, given.rstrip("/"))


def test_other_values_that_cannot_be_sent_are_named_before_anything_is_painted(
    workerless: WorkerlessApi, tmp_path: Path
) -> None:
    with proxy_to(workerless.stack.url) as proxy, Client(proxy.url) as client:
        for key in ("", "a\nb", "ü", "a" * 256):
            with pytest.raises(InvalidArgumentError, match="idempotency_key"):
                client.submit("hills", idempotency_key=key)
        with pytest.raises(InvalidArgumentError, match="format: one of png, webp"):
            client.generate("hills", format="gif")
        with pytest.raises(InvalidArgumentError, match="JSON"):
            client.submit("hills", guidance_scale=float("nan"))
        with pytest.raises(InvalidArgumentError, match="JSON"):
            client.submit("hills", metadata={"folder": tmp_path})
        with pytest.raises(InvalidArgumentError, match="JSON"):
            client.submit(b"h\xfcgel".decode(errors="surrogateescape"))
        with pytest.raises(InvalidArgumentError, match="not a PNG"):
            client.repaint(b"GIF89a")
        with pytest.raises(InvalidArgumentError, match="limit"):
            next(client.list(limit=0))
        assert proxy.requests == []


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"": "c"}, {"ü": "c"}, {"X-Token": f"{SECRET}\n"}, {"X-Token": ""}])
def test_headers_that_are_none_are_refused_and_their_values_not_repeated(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        Client(headers=headers)
    assert SECRET not in str(refused.value)
