"""The image store: an image survives a crash completely, or does not exist."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from jobs.store import ImageDamaged, ImageMissing, ImageStore, StoreError


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore((tmp_path / "a folder").as_uri())


def test_what_is_put_comes_back_with_its_digest(store: ImageStore) -> None:
    image = store.put("j1", 1, b"png")
    assert (image.sha256, image.bytes) == (hashlib.sha256(b"png").hexdigest(), 3)
    assert asyncio.run(store.get(image.key, image.sha256)) == b"png"


def test_every_attempt_writes_under_a_name_of_its_own(store: ImageStore) -> None:
    first, late = store.put("j1", 1, b"first"), store.put("j1", 2, b"late")
    assert asyncio.run(store.get(first.key, first.sha256)) == b"first"
    assert asyncio.run(store.get(late.key, late.sha256)) == b"late"


def test_damaged_bytes_are_never_served(store: ImageStore, tmp_path: Path) -> None:
    image = store.put("j1", 1, b"png")
    (tmp_path / "a folder" / image.key).write_bytes(b"pnx")
    with pytest.raises(ImageDamaged):
        asyncio.run(store.get(image.key, image.sha256))


def test_a_missing_image_is_told_from_a_broken_store(store: ImageStore) -> None:
    with pytest.raises(ImageMissing):
        asyncio.run(store.get("j1/1.png", "0"))


def test_deleting_a_job_leaves_nothing_of_it_and_may_be_repeated(store: ImageStore, tmp_path: Path) -> None:
    store.put("j1", 1, b"a")
    store.put("j1", 2, b"b")
    kept = store.put("j2", 1, b"c")
    store.delete_job("j1")
    store.delete_job("j1")
    assert [path.name for path in (tmp_path / "a folder").iterdir()] == ["j2"]
    assert asyncio.run(store.get(kept.key, kept.sha256)) == b"c"


def test_a_store_that_cannot_be_written_says_so(store: ImageStore, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    (folder / "j1").write_bytes(b"in the way")  # root ignores permissions, so a file blocks the folder's path
    with pytest.raises(StoreError, match="cannot be stored"):
        store.put("j1", 1, b"png")


def test_readiness_notices_a_store_that_is_gone(store: ImageStore, tmp_path: Path) -> None:
    asyncio.run(store.check())
    probe = tmp_path / "a folder" / "health"
    for path in probe.iterdir():
        path.unlink()
    probe.rmdir()
    probe.write_bytes(b"in the way")
    with pytest.raises(StoreError):
        asyncio.run(store.check())
