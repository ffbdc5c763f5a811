"""Serves the web page and the API's documentation, without loading anything from another host.

The URL of each static file contains a version that changes with the files' content, so browsers cache the files for
ever. Only `GET /` is revalidated, by its ETag. The scripts import each other by relative URLs, so the version applies
to them as well.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.accept import accepts_gzip
from service.conditional import is_fresh
from service.problems import ProblemError

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "page"
_VERSION = b"@version"  # placeholder in index.html and docs.html for the version
_CACHE_FOREVER = "public, max-age=31536000, immutable"
_COMPRESSIBLE = frozenset({".css", ".html", ".js", ".json", ".svg"})

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# Swagger UI adds style elements and shows images from data: URLs.
_DOCS_POLICY = {**_POLICY, "style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, ready to be sent."""

    body: bytes
    zipped: bytes | None
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> Asset:
        zipped = gzip.compress(body, mtime=0) if Path(name).suffix in _COMPRESSIBLE else None
        media_type = mimetypes.types_map.get(Path(name).suffix, "application/octet-stream")
        return cls(body, zipped, media_type, f'W/"{_digest(body)}"')


@dataclass(frozen=True, slots=True)
class Files:
    """The files by name, and the version in their URLs."""

    version: str
    by_name: Mapping[str, Asset]


@cache
def files() -> Files:
    """The page's files and those of Swagger UI, read once."""
    bodies = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.is_file()}
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        bodies[name] = (_swagger_folder() / name).read_bytes()
    version = _digest(b"".join(name.encode() + body for name, body in bodies.items()))
    return Files(
        version, {name: Asset.of(name, body.replace(_VERSION, version.encode())) for name, body in bodies.items()}
    )


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page."""
    return _document(request, "index.html", _POLICY)


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """The API's documentation, shown by Swagger UI."""
    return _document(request, "docs.html", _DOCS_POLICY)


@router.get("/openapi.json")
async def get_openapi(request: Request) -> Response:
    """The contract, written once."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = Asset.of("openapi.json", json.dumps(request.app.openapi()).encode())
    return _asset_response(request, state.openapi, {"Cache-Control": "no-cache"})


@router.get("/page/{version}/{name}")
async def get_file(version: str, name: str, request: Request) -> Response:
    """A static file. It is not cached under the URL of another version, which two replicas have during an update."""
    asset = files().by_name.get(name)
    if asset is None or name.endswith(".html"):
        raise ProblemError("not-found", "The page has no such file")
    return _asset_response(
        request, asset, {"Cache-Control": _CACHE_FOREVER if version == files().version else "no-store"}
    )


def _document(request: Request, name: str, policy: Mapping[str, str]) -> Response:
    content = "; ".join(f"{directive} {sources}" for directive, sources in policy.items())
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": content}
    return _asset_response(request, files().by_name[name], headers)


def _asset_response(request: Request, asset: Asset, headers: Mapping[str, str]) -> Response:
    headers = {**_SECURITY_HEADERS, **headers, "ETag": asset.etag}
    if asset.zipped:
        headers["Vary"] = "Accept-Encoding"
    if is_fresh(request.headers.get("if-none-match"), asset.etag):
        return Response(status_code=304, headers=headers)
    if asset.zipped and accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(asset.zipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.body, headers=headers, media_type=asset.media_type)


def _swagger_folder() -> Path:
    """The package fastapi-offline contains the files that FastAPI would load from another host. It is not imported."""
    spec = importlib.util.find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=9).hexdigest()
