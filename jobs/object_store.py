"""Opens the object store of a URL: a local folder, S3 and what speaks its protocol, Google Cloud Storage, Azure.

Credentials, region and endpoint are read by obstore from the environment variables of the providers' own tools.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import AfterValidator

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from jobs.settings import Settings

SCHEMES = ("file", "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
_S3 = ("s3", "s3a")
# Where the tools of AWS, and obstore, look for the address of a store that is not Amazon's.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

# How long a call of obstore took, and how often it was tried.
_TRY = re.compile(r" in [\d.]+\S*s(?:, after [^-]*?)?(?= *- )")
# For objects in a bucket, which clients may be sent to.
_CONTENT_TYPE = "image/png"


@dataclass(frozen=True, slots=True)
class Connection:
    """How a store is reached. `seconds` is the limit of one call. `ca_file` has certificates in PEM that are trusted
    beside the system's."""

    seconds: float = 30.0
    ca_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings describe."""
        return cls(settings.store_call_timeout, settings.store_ca)


def check_url(url: str) -> str:
    """The URL. Raises ValueError when no store can be opened by it, whatever the environment says."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{url!r} begins with none of {', '.join(f'{scheme}://' for scheme in SCHEMES[:4])}, az://")
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise ValueError(f"{url!r} is not file:/// and the absolute path of a folder")
    elif not parts.netloc:
        raise ValueError(f"{url!r} names no bucket")
    return url


def is_s3(url: str) -> bool:
    """Whether a URL names a store of S3's protocol."""
    return urlsplit(url).scheme in _S3


def folder_of(url: str) -> Path | None:
    """The local folder that a URL names; None for other stores."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_store(url: str, connection: Connection) -> ObjectStore:
    """Open a store. Nothing is sent yet; a local folder is made, for this user alone.

    Raises:
        ValueError: when the URL or the environment is incomplete; the message says what is missing.
    """
    check_url(url)
    if folder := folder_of(url):
        try:
            make_private(folder)
        except OSError as error:
            raise ValueError(f"the folder {folder} cannot be made: {error.strerror}") from error
        return LocalStore(folder)
    return open_remote(url, connection, client_options(url, connection, os.environ))


def open_remote(url: str, connection: Connection, options: ClientConfig, **config: Any) -> ObjectStore:
    """As `open_store`, of a bucket, with these options and further ones of the kind of store.

    Raises:
        ValueError
    """
    # The callers retry for much longer; these retries are for a connection that was closed while idle.
    retries: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=connection.seconds)}
    try:
        return from_url(url, client_options=options, retry_config=retries, **config)
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise ValueError(f"{url}: {first_line(error)}") from error


def client_options(url: str, connection: Connection, environment: Mapping[str, str]) -> ClientConfig:
    """obstore's options for HTTP. They replace what it would read from the environment, so that is repeated here.

    An endpoint that is written with http:// is used so; no second variable has to allow that.
    """
    seconds = connection.seconds
    options: ClientConfig = {
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=min(seconds, 5.0)),
        "default_content_type": _CONTENT_TYPE,
    }
    ca_file = connection.ca_file
    if is_s3(url):
        options["allow_http"] = _true(environment.get("AWS_ALLOW_HTTP")) or any(
            environment.get(name, "").startswith("http://") for name in _ENDPOINTS
        )
        if not ca_file and (bundle := environment.get("AWS_CA_BUNDLE")):
            ca_file = Path(bundle)
    if ca_file:
        options["root_certificate"] = read_certificates(ca_file)
    return options


def read_certificates(path: Path) -> str:
    """The text of a file of certificates.

    Raises:
        ValueError: when it cannot be read or has none.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not PEM'}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError(f"{path} has no certificate in PEM")
    return text


def _check_certificates(path: Path) -> Path:
    read_certificates(path)
    return path


# Types of settings: what they refuse is reported when a process starts.
StoreUrl = Annotated[str, AfterValidator(check_url)]
CertificateFile = Annotated[Path, AfterValidator(_check_certificates)]


def make_private(folder: Path) -> None:
    """Make a folder, if it is not there, that only this user can enter, whatever the umask.

    Raises:
        OSError
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # the umask may have taken more away


def first_line(error: BaseException) -> str:
    """What an error says, without what changes with each try. obstore appends its debugging output over many lines."""
    return _TRY.sub("", next(iter(str(error).strip().splitlines()), type(error).__name__))


def _true(text: str | None) -> bool:
    return (text or "").strip().lower() in {"1", "true", "yes", "on"}
