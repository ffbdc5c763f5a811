"""`/readyz` and the image store."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from jobs.store import ImageStore, StoreError
from service.store_check import StoreCheck


def writes_of(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are written from now on."""
    written: list[str] = []
    write = store._write
    monkeypatch.setattr(store, "_write", lambda key, data: (written.append(key), write(key, data)))
    return written


def test_however_many_ask_the_store_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(tmp_path.as_uri())
    written = writes_of(store, monkeypatch)
    check = StoreCheck(store)

    async def ask() -> None:
        await asyncio.gather(*(check.check() for _ in range(50)))
        await check.check()

    asyncio.run(ask())
    assert written == ["health/probe"]


def test_all_learn_that_the_store_fails(tmp_path: Path) -> None:
    (tmp_path / "health").write_bytes(b"in the way")
    check = StoreCheck(ImageStore(tmp_path.as_uri()))

    async def ask() -> list[object]:
        return await asyncio.gather(*(check.check() for _ in range(5)), return_exceptions=True)

    assert {type(answer) for answer in asyncio.run(ask())} == {StoreError}


def test_a_check_that_hangs_is_one_thread_though_all_who_asked_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, release = ImageStore(tmp_path.as_uri()), threading.Event()
    monkeypatch.setattr(store, "_write", lambda *_: release.wait())
    check = StoreCheck(store)

    async def ask_and_leave() -> int:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await check.check()
        hanging = sum(thread.name == "limited-call" for thread in threading.enumerate())
        release.set()
        return hanging

    assert asyncio.run(ask_and_leave()) == 1
