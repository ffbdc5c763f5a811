"""Addresses are checked at the moment of the call, and only a checked address is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.webhooks.network import WebhookClient, WebhookResponse
from service.webhooks.sender import RetrySchedule
from service.webhooks.signing import Signer
from service.webhooks.targets import Address, TargetRules, is_public
from testkit.webhook_receiver import INSIDE, OUTSIDE, Receiver

# Stands for an address on the Internet; nothing answers there.
TEST_NET = "192.0.2.7"
NOT_LISTENING = "127.0.0.3"
RULES = TargetRules(
    True, [ipaddress.ip_network(text) for text in ("192.0.2.0/24", f"{OUTSIDE}/32", f"{NOT_LISTENING}/32")]
)

PRIVATE = """
    0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.88.99.1
    192.168.1.1 198.18.0.1 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:127.0.0.1 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:20::1 2001:db8::1
    2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
""".split()


class FakeResolver:
    """Resolves each query to the next of the given answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.queries = 0

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.queries += 1
        return [ipaddress.ip_address(text) for text in self.answers.pop(0)]


def post(
    url: str, resolver: FakeResolver, rules: TargetRules = RULES, tls: ssl.SSLContext | None = None, times: int = 1
) -> list[WebhookResponse]:
    async def run() -> list[WebhookResponse]:
        client = WebhookClient(rules, timeout=0.5, look_up=resolver, tls=tls)
        return [await client.post(url, {"webhook-id": "x"}, b'{"data": {"id": "x"}}') for _ in range(times)]

    return asyncio.run(run())


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_name_that_is_outside_first_and_inside_then_reaches_nothing_inside() -> None:
    resolver = FakeResolver([TEST_NET], [INSIDE], [OUTSIDE, INSIDE], [INSIDE])
    with Receiver(INSIDE) as inside:
        answers = post(f"http://hooks.example:{inside.port}/", resolver, times=4)
    assert [answer.status for answer in answers] == [None] * 4
    assert [answer.error for answer in answers[1:]] == ["the name has no address that may be called"] * 3
    assert resolver.queries == 4, "each attempt resolves once: the checked address is the one connected to"
    assert inside.calls == []


def test_a_call_goes_to_the_checked_address_with_the_name_as_host() -> None:
    with Receiver() as receiver:
        (answer,) = post(f"http://hooks.example:{receiver.port}/a?b=c", FakeResolver([OUTSIDE]))
    assert answer == WebhookResponse(204)
    (request,) = receiver.calls
    assert (request.path, request.headers["host"]) == ("/a?b=c", f"hooks.example:{receiver.port}")


def test_a_second_address_is_tried_when_the_first_does_not_answer() -> None:
    with Receiver() as receiver:
        (answer,) = post(f"http://hooks.example:{receiver.port}/", FakeResolver([NOT_LISTENING, OUTSIDE]))
    assert answer.status == 204


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_tls_verifies_the_name_and_not_the_address(tmp_path: Path) -> None:
    subject = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *made, *subject], cwd=tmp_path, check=True, capture_output=True)
    server_names: list[str] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.sni_callback = lambda _socket, name, _context: server_names.append(name)
    client_tls = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with Receiver() as receiver:
        assert receiver._server
        receiver._server.socket = server.wrap_socket(receiver._server.socket, server_side=True)
        (right,) = post(f"https://hooks.example:{receiver.port}/", FakeResolver([OUTSIDE]), tls=client_tls)
        (other,) = post(f"https://other.example:{receiver.port}/", FakeResolver([OUTSIDE]), tls=client_tls)
    assert (right.status, other.status, other.error) == (204, None, "TLS failed: is its certificate valid?")
    assert server_names == ["hooks.example", "other.example"]
    assert len(receiver.calls) == 1


def test_plain_http_is_called_only_if_allowed() -> None:
    resolver = FakeResolver([OUTSIDE])
    (answer,) = post("http://hooks.example/", resolver, TargetRules(networks=RULES.networks))
    assert answer.status is None
    assert resolver.queries == 0


def test_a_failed_call_is_retried_for_about_a_day() -> None:
    schedule = RetrySchedule(attempts=10, first=5, longest=28_800)
    pauses = [schedule.pause(attempt) for attempt in range(1, 10)]
    assert 4 <= pauses[0] <= 6
    assert 0.7 < sum(pauses) / 86_400 < 1.3
    assert schedule.pause(1, retry_after=60) == 60
    assert schedule.pause(1, retry_after=10**9) == 28_800


def test_each_owner_has_a_secret_of_its_own() -> None:
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])
    secrets = {owner: signer.secret(owner) for owner in ("", "anna", "bert")}
    assert len(set(secrets.values())) == 3
    assert all(secret.startswith("whsec_") for secret in secrets.values())
