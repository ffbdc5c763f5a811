"""When a request for an image may be answered with a redirect to the bucket, so that no API key goes there."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from service.head import is_head

# A redirected request repeats these, and the store, whose ETag is another one, would refuse it.
_CONDITIONS = ("if-match", "if-unmodified-since")


def may_redirect(request: Request, etag: str) -> bool:
    """Whether a client that follows a redirect of this request gets the image and gives nothing away.

    - Clients drop `Authorization` on the way to another host, but repeat `X-API-Key`.
    - A signature is for one method, so HEAD is answered here.
    - A page's scripts and images (`Sec-Fetch-Mode`) may load nothing from the store unless that has been told to allow
      it; only a visit of the address itself may.
    - `If-Range` with our `ETag` asks for a part of what we sent. With another it is of the store's, which knows it.
    """
    headers = request.headers
    return (
        not is_head(request)
        and "x-api-key" not in headers
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("if-range", "").strip() != etag
        and not any(name in headers for name in _CONDITIONS)
    )


def same_host(request: Request, address: str) -> bool:
    """Whether an address is on the host of this request, where clients would repeat `Authorization`."""
    return urlsplit(address).netloc.lower() == request.headers.get("host", "").lower()
