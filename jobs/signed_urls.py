"""Signed addresses, by which clients fetch images from a bucket itself."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from jobs.object_store import Connection, client_options, first_line, folder_of, is_s3, open_remote

if TYPE_CHECKING:
    from jobs.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = 300  # in which a client must begin to follow a redirect


class SignedUrls:
    """Signs addresses with the store's own credentials.

    Args:
        url: of a bucket.
        public_endpoint: the address under which clients reach an S3 store, where the API uses another one. The
            signature covers the address, so it cannot be replaced afterwards.

    Raises:
        ValueError: when addresses of such a store cannot be signed.
    """

    def __init__(self, url: str, connection: Connection, public_endpoint: str | None = None) -> None:
        if folder_of(url):
            raise ValueError("PANORAMAS_STORE_REDIRECT needs a bucket: nobody can be redirected to a local folder")
        options, config = client_options(url, connection, os.environ), {}
        if public_endpoint:
            parts = urlsplit(public_endpoint)
            if not is_s3(url) or parts.scheme not in {"http", "https"} or not parts.netloc:
                raise ValueError(
                    "PANORAMAS_STORE_PUBLIC_ENDPOINT is for s3:// stores, and begins with https:// or http://"
                )
            options, config = {**options, "allow_http": True}, {"endpoint": public_endpoint}
        store = open_remote(url, connection, options, **config)
        assert isinstance(store, AzureStore | GCSStore | S3Store)
        self._store = store
        self._connection = connection

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """As the settings describe; None when they do not want any. Raises ValueError."""
        if not settings.store_redirect:
            return None
        return cls(settings.image_url, Connection.of(settings), settings.store_public_endpoint)

    async def sign(self, key: str) -> str | None:
        """An address by which whoever has it can GET this object, for some minutes; None when the credentials cannot
        sign, such as those of a virtual machine of Google's."""
        try:
            async with asyncio.timeout(self._connection.seconds):
                return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=_SECONDS))
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            log.warning("no address can be signed, so the image passes through this process: %s", first_line(error))
            return None
