"""The image store: an image survives a crash completely, or does not exist."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path

import pytest
import typer

from jobs.object_store import first_line
from jobs.store import ImageDamaged, ImageMissing, ImageStore, StoreError
from panoramas.server.roles import checked_store, read_settings


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


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_pictures_are_for_this_user_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = ImageStore((tmp_path / "images").as_uri())
        image = store.put("j1", "1", b"png")
        asyncio.run(store.check())
    finally:
        os.umask(before)
    assert asyncio.run(store.get(image.key, image.sha256)) == b"png"
    folders = [tmp_path / "images", *(path for path in (tmp_path / "images").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert stat.S_IMODE((tmp_path / "images" / image.key).stat().st_mode) == 0o600


def test_a_part_of_an_image_is_read_alone(store: ImageStore, tmp_path: Path) -> None:
    image = store.put("j1", "1", b"0123456789")
    assert asyncio.run(store.get_part(image.key, 2, 4)) == b"234"
    asyncio.run(store.check_size(image.key, 10))
    (tmp_path / "a folder" / image.key).write_bytes(b"012")
    with pytest.raises(ImageDamaged):
        asyncio.run(store.get_part(image.key, 2, 4))
    with pytest.raises(ImageDamaged):
        asyncio.run(store.check_size(image.key, 10))
    with pytest.raises(ImageMissing):
        asyncio.run(store.get_part("j2/1.png", 2, 4))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"STORE_URL": "ftp://pictures"}, "PANORAMAS_STORE_URL: "),
        ({"STORE_URL": "memory:///"}, "PANORAMAS_STORE_URL: "),
        ({"STORE_URL": "s3:///prefix"}, "names no bucket"),
        ({"STORE_URL": "file://images"}, "the absolute path of a folder"),
        ({"STORE_URL": "file:///proc/nothing/images"}, "cannot be made"),
        ({"STORE_URL": "az://pictures"}, "Account must be specified"),
        ({"STORE_URL": "s3://pictures", "STORE_CA": "/etc/hostname"}, "has no certificate in PEM"),
        ({"STORE_REDIRECT": "true"}, "PANORAMAS_STORE_REDIRECT needs a bucket"),
        (
            {"STORE_REDIRECT": "true", "STORE_URL": "s3://pictures", "STORE_PUBLIC_ENDPOINT": "minio:9000"},
            "PANORAMAS_STORE_PUBLIC_ENDPOINT is for s3:// stores, and begins with https:// or http://",
        ),
    ],
)
def test_a_store_that_cannot_be_opened_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    variables: dict[str, str],
    said: str,
) -> None:
    monkeypatch.setenv("PANORAMAS_DATA_DIR", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(f"PANORAMAS_{name}", value)
    with pytest.raises((SystemExit, typer.Exit)):
        checked_store(read_settings())
    assert said in capsys.readouterr().err


def test_readiness_notices_a_store_that_is_gone(store: ImageStore, tmp_path: Path) -> None:
    asyncio.run(store.check())
    probe = tmp_path / "a folder" / "health"
    for path in probe.iterdir():
        path.unlink()
    probe.rmdir()
    probe.write_bytes(b"in the way")
    with pytest.raises(StoreError):
        asyncio.run(store.check())


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Generic S3 error: Error performing PUT http://minio:9000/b/k in 2.15s, after 2 retries, max_retries: 2,"
            " retry_timeout: 30s  - HTTP error: error sending request\n\nDebug source:\nGeneric {",
            "Generic S3 error: Error performing PUT http://minio:9000/b/k  - HTTP error: error sending request",
        ),
        (
            "Generic S3 error: Error performing PUT http://minio:9000/b/k in 51.406µs - HTTP error: builder error",
            "Generic S3 error: Error performing PUT http://minio:9000/b/k - HTTP error: builder error",
        ),
        ("No space left on device (os error 28)", "No space left on device (os error 28)"),
        ("", "Exception"),
    ],
)
def test_the_same_fault_is_one_line_that_reads_the_same_each_time(message: str, line: str) -> None:
    assert first_line(Exception(message)) == line
