"""A server of S3's protocol (moto), in a process of its own, over http or TLS. It keeps everything in memory.

`python -m testkit.s3_server PORT UNDELETABLE [CERTIFICATE KEY]` runs it. UNDELETABLE is a file: an object whose key has
one of its lines in it cannot be deleted.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx

from testkit.processes import ROOT, eventually, free_port

BUCKET = "pictures"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class S3Server:
    """A running server with one empty bucket. `ca` is the file of the authority that signed its certificate."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._undeletable = folder / "undeletable"
        self._undeletable.touch()
        self.port = free_port()
        self.ca: Path | None = None
        arguments = [str(self.port), str(self._undeletable)]
        if tls:
            self.ca, certificate, key = _certificates(folder)
            arguments += [str(certificate), str(key)]
        with (folder / "s3.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "testkit.s3_server", *arguments], stdout=log, stderr=log, cwd=ROOT
            )
        eventually(self._make_bucket, 60, "the S3 server answers")

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    def environment(self, url: str | None = None) -> dict[str, str]:
        """The settings of a process that keeps its images here, reached by `url`, which may be a proxy's."""
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": url or self.url,
            "PANORAMAS_STORE_URL": f"s3://{BUCKET}/some/prefix",
        }

    def undeletable(self, *parts: str) -> None:
        """From now on objects whose keys hold one of these parts cannot be deleted; all others can."""
        self._undeletable.write_text("".join(f"{part}\n" for part in parts))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _make_bucket(self) -> bool:
        assert self._process.poll() is None
        try:
            # moto checks no signature.
            return httpx.put(f"{self.url}/{BUCKET}", verify=False).is_success
        except httpx.TransportError:
            return False


@contextmanager
def s3_server(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """A server that is gone afterwards."""
    server = S3Server(folder, tls=tls)
    try:
        yield server
    finally:
        server.close()


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, a certificate for 127.0.0.1 that it signed, and the latter's key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now, authority = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())

    def certificate(text: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(name("a test's authority"), name(text), key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        return builder.add_extension(extension, critical=False).sign(authority, hashes.SHA256())

    key = ec.generate_private_key(ec.SECP256R1())
    ours = certificate("a test's authority", authority, x509.BasicConstraints(ca=True, path_length=None))
    theirs = certificate("a store", key, x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]))
    pem = serialization.Encoding.PEM
    key_text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    contents = {"ca.pem": ours.public_bytes(pem), "certificate.pem": theirs.public_bytes(pem), "key.pem": key_text}
    for file, text in contents.items():
        (folder / file).write_bytes(text)
    return folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"


def _guarded(app: Callable[..., Iterable[bytes]], undeletable: Path) -> Callable[..., Iterable[bytes]]:
    """`app`, which refuses to delete some objects."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        deletes = environ["REQUEST_METHOD"] == "DELETE" or "delete" in environ.get("QUERY_STRING", "").split("&")
        if deletes:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            asked = environ["PATH_INFO"].encode() + body
            if any(part.encode() in asked for part in undeletable.read_text().split()):
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [b"<Error><Code>AccessDenied</Code><Message>it is locked</Message></Error>"]
        return app(environ, start_response)

    return guarded


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    port, undeletable, *tls = sys.argv[1:]
    app = _guarded(DomainDispatcherApplication(create_backend_app), Path(undeletable))
    run_simple("127.0.0.1", int(port), app, threaded=True, ssl_context=(tls[0], tls[1]) if tls else None)


if __name__ == "__main__":
    main()
