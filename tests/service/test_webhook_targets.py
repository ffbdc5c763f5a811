"""What may be called is judged by the address that is connected to, at the moment of the call."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.webhooks.network import Answer, Poster
from service.webhooks.sender import Schedule
from service.webhooks.signing import Signer
from service.webhooks.targets import Address, TargetRules, is_public
from testkit.webhook_receiver import INSIDE, OUTSIDE, Receiver

# What stands for the Internet here: nothing of it answers.
TEST_NET = "192.0.2.7"
NOBODY = "127.0.0.3"
RULES = TargetRules(True, [ipaddress.ip_network(text) for text in ("192.0.2.0/24", f"{OUTSIDE}/32", f"{NOBODY}/32")])

PRIVATE = """
    0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.88.99.1
    192.168.1.1 198.18.0.1 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:127.0.0.1 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:20::1 2001:db8::1
    2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
""".split()


class Names:
    """A name server that answers each question with the next of its answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked += 1
        return [ipaddress.ip_address(text) for text in self.answers.pop(0)]


def post(
    url: str, names: Names, rules: TargetRules = RULES, tls: ssl.SSLContext | None = None, times: int = 1
) -> list[Answer]:
    async def run() -> list[Answer]:
        poster = Poster(rules, timeout=0.5, look_up=names, tls=tls)
        return [await poster.post(url, {"webhook-id": "x"}, b'{"data": {"id": "x"}}') for _ in range(times)]

    return asyncio.run(run())


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_nobodys_on_the_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"])
def test_addresses_that_are_somebodys(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_name_that_is_outside_first_and_inside_then_reaches_nothing_inside() -> None:
    names = Names([TEST_NET], [INSIDE], [OUTSIDE, INSIDE], [INSIDE])
    with Receiver(INSIDE) as inside:
        answers = post(f"http://hooks.example:{inside.port}/", names, times=4)
    assert [answer.status for answer in answers] == [None] * 4
    assert [answer.error for answer in answers[1:]] == ["the name has no address that may be called"] * 3
    assert names.asked == 4, "an attempt asks once: what is checked is what is connected to"
    assert inside.calls == []


def test_a_call_goes_to_the_checked_address_in_the_names_name() -> None:
    with Receiver() as receiver:
        (answer,) = post(f"http://hooks.example:{receiver.port}/a?b=c", Names([OUTSIDE]))
    assert answer == Answer(204)
    (heard,) = receiver.calls
    assert (heard.path, heard.headers["host"]) == ("/a?b=c", f"hooks.example:{receiver.port}")


def test_a_second_address_is_tried_where_the_first_does_not_answer() -> None:
    with Receiver() as receiver:
        (answer,) = post(f"http://hooks.example:{receiver.port}/", Names([NOBODY, OUTSIDE]))
    assert answer.status == 204


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_tls_is_with_the_name_and_not_with_the_address(tmp_path: Path) -> None:
    subject = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *made, *subject], cwd=tmp_path, check=True, capture_output=True)
    asked: list[str] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with Receiver() as receiver:
        assert receiver._server
        receiver._server.socket = server.wrap_socket(receiver._server.socket, server_side=True)
        (right,) = post(f"https://hooks.example:{receiver.port}/", Names([OUTSIDE]), tls=trusting)
        (other,) = post(f"https://other.example:{receiver.port}/", Names([OUTSIDE]), tls=trusting)
    assert (right.status, other.status, other.error) == (204, None, "TLS failed: is its certificate valid?")
    assert asked == ["hooks.example", "other.example"]
    assert len(receiver.calls) == 1


def test_http_is_called_only_where_that_is_allowed() -> None:
    names = Names([OUTSIDE])
    (answer,) = post("http://hooks.example/", names, TargetRules(networks=RULES.networks))
    assert answer.status is None
    assert names.asked == 0


def test_a_failed_call_is_tried_again_for_about_a_day() -> None:
    schedule = Schedule(attempts=10, first=5, longest=28_800)
    pauses = [schedule.pause(attempt) for attempt in range(1, 10)]
    assert 4 <= pauses[0] <= 6
    assert 0.7 < sum(pauses) / 86_400 < 1.3
    assert schedule.pause(1, asked=60) == 60
    assert schedule.pause(1, asked=10**9) == 28_800


def test_owners_verify_with_secrets_of_their_own() -> None:
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])
    secrets = {owner: signer.secret(owner) for owner in ("", "anna", "bert")}
    assert len(set(secrets.values())) == 3
    assert all(secret.startswith("whsec_") for secret in secrets.values())
