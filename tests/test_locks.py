"""Messages where a lock file cannot be acquired; the tests of shared files check that processes take turns."""

import errno
from pathlib import Path

import pytest
from filelock import FileLock

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.locks import refuse_if_locked, remove_if_unlocked, sweep_unlocked, wait_for_lock

WAYS = {
    "wait": lambda path: wait_for_lock(path, "decoding", Log()),
    "refuse": lambda path: refuse_if_locked(path, "in use"),
    "remove": remove_if_unlocked,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def refused(way, path):
    with pytest.raises(UserError) as refusal, way(path):
        pytest.fail("the lock was held")
    text = str(refusal.value)
    assert "\n" not in text
    assert "use another folder: $KERAS_BENCH_CACHE for the cache, --out for runs" in text
    return text


@ways
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (NotImplementedError("no flock\nhere"), "no flock here"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_a_lock_that_cannot_be_acquired_is_reported_in_one_line(tmp_path, monkeypatch, way, error, reason):
    def fail(lock, timeout):
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert refused(way, tmp_path / "a.lock").startswith(f"cannot lock {tmp_path / 'a.lock'}: {reason}. Expected")


@ways
def test_a_folder_that_cannot_be_created_is_reported_too(tmp_path, monkeypatch, way):
    def fail(path, **words):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", fail)
    path = tmp_path / "cache" / "a.lock"
    assert refused(way, path).startswith(f"cannot lock {path}: Permission denied. ")


@ways
def test_an_error_raised_under_the_lock_passes_unchanged(tmp_path, way):
    with pytest.raises(PermissionError, match="of the work"), way(tmp_path / "a.lock"):
        raise PermissionError("of the work")


def test_a_lock_that_is_held_is_distinguished_from_one_that_cannot_be_acquired(tmp_path):
    path = tmp_path / "a.lock"
    with FileLock(path):
        with pytest.raises(UserError, match="^in use$"), refuse_if_locked(path, "in use"):
            pytest.fail("the lock was held")
        with remove_if_unlocked(path) as is_free:
            assert not is_free


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f".writing-0123456789abcdef-{name}").mkdir()

    def lock_of(name):
        return tmp_path / f"{name}.lock"

    with wait_for_lock(lock_of("a"), "writing a", Log()):
        sweep_unlocked(tmp_path, lock_of)
        assert [path.name for path in tmp_path.glob(".writing-*")] == [".writing-0123456789abcdef-a"]
    sweep_unlocked(tmp_path, lock_of)
    assert not list(tmp_path.glob(".writing-*"))
    sweep_unlocked(tmp_path / "missing", lock_of)
