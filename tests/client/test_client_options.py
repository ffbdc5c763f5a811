"""A client's own headers, proxy and HTTP client; and both clients are alike."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from panoramas import AsyncClient, Client, InvalidArgumentError, Job, ServiceError
from service.openapi_examples import JOB
from testkit.answers import Answers, answering
from testkit.processes import ROOT


@pytest.fixture
def answers() -> Iterator[Answers]:
    with answering() as running:
        yield running


def methods(kind: type) -> dict[str, inspect.Signature]:
    public = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
    return {name: inspect.signature(method) for name, method in public.items()}


def test_both_clients_have_the_same_methods_parameters_and_documents() -> None:
    ours, theirs = methods(Client), methods(AsyncClient)
    theirs["close"] = theirs.pop("aclose")
    assert set(ours) == set(theirs)
    for name, signature in ours.items():
        assert signature.parameters == theirs[name].parameters, name
        returned = str(theirs[name].return_annotation).removeprefix("Async")
        assert signature.return_annotation == returned, name
        documents = [inspect.getdoc(getattr(kind, name, None)) for kind in (Client, AsyncClient)]
        if name not in ("close", "generate"):
            assert documents[0] == documents[1], name
    options = [list(inspect.signature(kind).parameters) for kind in (Client, AsyncClient)]
    assert options[0] == options[1]


def test_headers_go_with_every_request_and_the_key_gives_way_to_the_callers(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"X-Tenant": "a", "User-Agent": "shop/1"}
    with Client(answers.url, api_key="key", headers=headers) as client:
        client.models()
    sent = answers.received[-1]
    assert (sent["x-tenant"], sent["user-agent"], sent["authorization"]) == ("a", "shop/1", "Bearer key")
    with Client(answers.url, api_key="key", headers={"authorization": "Basic YTpi"}) as client:
        client.models()
    assert (answers.received[-1]["authorization"], answers.received[-1]["x-api-key"]) == ("Basic YTpi", "key")
    monkeypatch.setenv("PANORAMAS_API_KEY", "of the environment")
    with Client(answers.url, headers={"x-api-key": "theirs", "user-agent": "shop/2"}) as client:
        client.models()
    sent = answers.received[-1]
    assert (sent["x-api-key"], sent["user-agent"], "authorization" in sent) == ("theirs", "shop/2", False)
    with pytest.raises(InvalidArgumentError, match="another one"):
        Client(answers.url, api_key="key", headers={"X-API-KEY": "theirs"})


def test_an_http_client_of_the_callers_is_used_as_it_is_and_left_open(answers: Answers) -> None:
    with httpx.Client(base_url=f"{answers.url}/pano", headers={"X-Tenant": "a"}, timeout=7, auth=("a", "b")) as ours:
        with Client(http_client=ours, api_key="key") as client:
            client.models()
            assert client._connection.timeout == httpx.Timeout(7)
        assert answers.paths[-1] == "/pano/models"
        assert answers.received[-1]["x-tenant"] == "a"
        assert answers.received[-1]["authorization"] == "Basic YTpi"
        assert answers.received[-1]["x-api-key"] == "key"
        assert not ours.is_closed
        with Client(f"{answers.url}/other", http_client=ours, timeout=3) as client:
            client.models()
            assert client._connection.timeout == httpx.Timeout(3)
        assert answers.paths[-1] == "/other/models"

    async def ask() -> bool:
        async with httpx.AsyncClient(base_url=answers.url) as http:
            async with AsyncClient(http_client=http, api_key="key") as client:
                await client.models()
            return http.is_closed

    assert asyncio.run(ask()) is False
    assert answers.received[-1]["authorization"] == "Bearer key"


def test_a_redirect_is_told_and_never_followed_with_the_key(answers: Answers) -> None:
    with answering() as elsewhere, httpx.Client(follow_redirects=True) as ours:
        answers.status, answers.headers = 307, {"Location": elsewhere.url}
        with Client(answers.url, http_client=ours, api_key="key") as client, pytest.raises(Exception, match="307"):
            client.models()
        assert elsewhere.received == []


def test_a_png_is_fetched_from_a_bucket_without_the_key_or_any_header_of_the_callers(answers: Answers) -> None:
    png = b"\x89PNG"
    job = {**JOB, "result": {**JOB["result"], "sha256": hashlib.sha256(png).hexdigest()}}

    async def fetch() -> bytes:
        async with AsyncClient(answers.url, api_key="5ecret", headers={"X-Tenant": "5ecret"}) as client:
            return await client.image(Job.of(job))

    with answering() as bucket, httpx.Client(auth=("5ecret", "5ecret"), cookies={"a": "5ecret"}) as ours:
        bucket.body = png
        answers.status, answers.headers = 307, {"Location": f"{bucket.url}/pictures/a.png?signature=x"}
        for options in ({"http_client": ours}, {"headers": {"X-Tenant": "5ecret"}}):
            with Client(answers.url, api_key="5ecret", **options) as client:  # type: ignore[arg-type]
                assert client.image(Job.of(job)) == png
                with pytest.raises(ServiceError, match="307"):
                    client.image(Job.of(job), format="webp")  # which no digest verifies
        assert asyncio.run(fetch()) == png
        assert bucket.paths == ["/pictures/a.png?signature=x"] * 3
        assert "5ecret" in str(answers.received)
        assert "5ecret" not in str(bucket.received)
        bucket.body = b"another"
        with Client(answers.url) as client, pytest.raises(ServiceError, match="sha256"):
            client.image(Job.of(job))
        for location in ("", "ftp://host/a", "http://a b:c/"):
            answers.headers = {"Location": location}
            with Client(answers.url, patience=0) as client, pytest.raises(ServiceError):
                client.image(Job.of(job))


def test_a_proxy_is_asked_and_one_that_is_none_is_refused(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client("http://service.example/pano", proxy=answers.url) as client:
        client.models()
    assert answers.paths == ["http://service.example/pano/models"]

    async def ask() -> None:
        async with AsyncClient("http://service.example", proxy=answers.url) as client:
            await client.models()

    asyncio.run(ask())
    assert answers.paths[-1] == "http://service.example/models"
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError, match="proxy") as refused:
            kind(proxy="ftp://user:5ecret@proxy")
        assert "5ecret" not in str(refused.value)
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128:what")
    with pytest.raises(InvalidArgumentError, match="ALL_PROXY"):
        Client()


def test_options_that_contradict_each_other_are_refused() -> None:
    with httpx.Client() as ours:
        for options in ({"proxy": "http://proxy"}, {"transport": httpx.HTTPTransport()}):
            with pytest.raises(InvalidArgumentError, match="pass them to it"):
                Client(http_client=ours, **options)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=r"httpx\.AsyncClient"):
            AsyncClient(http_client=ours)  # type: ignore[arg-type]


def test_certificates_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/certificates.pem")
    with pytest.raises(InvalidArgumentError, match="SSL_CERT_FILE"):
        Client()


@pytest.mark.slow
def test_a_type_checker_knows_every_name_and_refuses_a_misspelt_one(tmp_path: Path) -> None:
    good = (
        "import panoramas\n"
        "from panoramas import AsyncClient, Client, Job, Picture, webhooks\n"
        "def on_progress(job: Job) -> None: ...\n"
        "def paint(client: Client) -> Picture:\n"
        "    return client.generate('hills', width=512, format='webp', on_progress=on_progress)\n"
        "async def paint_too(client: AsyncClient) -> Picture:\n"
        "    return await client.generate('hills', seed=3, timeout=5)\n"
        "event: panoramas.WebhookEvent = webhooks.verify({}, b'', 's')\n"
    )
    bad = (
        "import panoramas\n"
        "panoramas.Clinet\n"
        "panoramas.Client().generate('hills', widht=512)\n"
        "panoramas.Client().submit('hills', width='wide')\n"
    )
    for code, status, faults in ((good, 0, 0), (bad, 1, 3)):
        (tmp_path / "program.py").write_text(code)
        command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent"]
        command += ["--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(tmp_path / "program.py")]
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout.count("error:")) == (status, faults), done.stdout + done.stderr


def test_a_request_is_what_the_caller_gave(answers: Answers) -> None:
    answers.body = json.dumps({"secret": "whsec_YQ=="}).encode()
    with Client(answers.url) as client:
        assert client.webhook_secret() == "whsec_YQ=="
    assert answers.paths == ["/webhooks/secret"]
