"""Pictures that a worker keeps on its disk."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.time_limit import TimeLimit, TookTooLong
from worker.kept import KeptPictures, Picture

PICTURE = Picture(b"png\n\x00more", 8, 16, {"denoise": 1.5}, [{"type": "a notice"}], "revision")


@pytest.fixture
def kept(tmp_path: Path) -> KeptPictures:
    return KeptPictures(tmp_path / "kept", longest=100)


def test_a_kept_picture_comes_back_as_it_was(kept: KeptPictures, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert kept.keep("j1", PICTURE)
    finally:
        os.umask(before)
    assert kept.ids == ["j1"]
    assert kept.load("j1") == PICTURE
    assert stat.S_IMODE((tmp_path / "kept" / "j1.kept").stat().st_mode) == 0o600
    kept.drop("j1")
    kept.drop("j1")
    assert (kept.ids, kept.load("j1")) == ([], None)


def test_kept_pictures_are_bounded_in_bytes_and_in_age(tmp_path: Path) -> None:
    counts: list[int] = []
    kept = KeptPictures(tmp_path / "kept", longest=100, most_bytes=1000, on_count=counts.append)
    assert kept.keep("j1", PICTURE)
    assert not kept.keep("j2", replace(PICTURE, png=bytes(1000)))
    assert kept.ids == ["j1"]
    long_ago = time.time() - 101
    (tmp_path / "kept" / "j2.4711").write_bytes(b"half-written")
    for path in (tmp_path / "kept").iterdir():
        os.utime(path, (long_ago, long_ago))
    assert kept.ids == []
    assert list((tmp_path / "kept").iterdir()) == []
    assert (counts[0], counts[-1]) == (1, 0)


@pytest.mark.parametrize("damage", [b"", b"{}\npng", b"not JSON\npng", b"[]\n", b'{"sha256": "0"}\npng'])
def test_a_damaged_picture_is_deleted_and_never_delivered(kept: KeptPictures, tmp_path: Path, damage: bytes) -> None:
    kept.keep("j1", PICTURE)
    (tmp_path / "kept" / "j1.kept").write_bytes(damage)
    assert kept.load("j1") is None
    assert kept.ids == []


def test_calls_that_hang_are_given_up_in_time_and_do_not_pile_up() -> None:
    limit, hanging = TimeLimit(0.1, most_hanging=2), threading.Event()
    threads = threading.active_count()
    for said in ("no answer within", "no answer within", "2 earlier calls still hang"):
        with pytest.raises(TookTooLong, match=said):
            limit.run(hanging.wait)
    assert threading.active_count() == threads + 2
    hanging.set()
    time.sleep(0.05)
    assert limit.run(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        limit.run(int, "x")
