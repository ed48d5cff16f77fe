"""Two processes that compute the same features at the same time: one complete, correct array, whatever happens."""

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.errors import RunError, UserError
from keras_bench.locks import wait_for_lock
from keras_bench.training import feature_store as store
from keras_bench.training.feature_eviction import evict
from keras_bench.training.feature_store import entries, entry_for, load_or_compute_features
from tests.at_once import children
from tests.damage import DAMAGE, change_digit
from tests.logs import WarningsLog

IMAGES = np.arange(64 * 4, dtype=np.float32).reshape(64, 4)
ABOUT = {"question": 1}
CHILD = """
import sys
import numpy as np
from keras_bench.console import Log
from keras_bench.training import feature_store as store

store.SAVE_SECONDS = float(sys.argv[2])
images = np.arange(64 * 4, dtype=np.float32).reshape(64, 4)

def batches(done):
    print("computes from", done, flush=True)
    for start in range(done, 64, 8):
        if start == 24:
            print("halfway", flush=True)
            sys.stdin.readline()
        yield images[start : start + 8]

about = {"question": 1}
print("ready", flush=True)
sys.stdin.readline()
entry = store.entry_for(about)
forward, advance = (lambda x: 2 * x + 1), (lambda count: None)
stored = store.load_or_compute_features(lambda: (forward, 1), batches, (64, 4), entry, about, advance, Log())
np.save(sys.argv[1], stored.array)
"""


def undisturbed(entry, about=ABOUT, log=None):
    return load_or_compute_features(
        lambda: (lambda images: 2 * images + 1, 1),
        lambda done: (IMAGES[start : start + 8] for start in range(done, 64, 8)),
        (64, 4),
        entry,
        about,
        lambda count: None,
        log or Log(),
    )


@pytest.mark.parametrize("save_seconds", [0, 3600])  # with and without recorded progress
def test_two_processes_end_with_the_array_of_an_undisturbed_run(tmp_path, save_seconds):
    paths = [tmp_path / "first.npy", tmp_path / "second.npy"]
    with children(CHILD, *((path, save_seconds) for path in paths)) as both:
        printed = [child.read_until("halfway", "waiting") for child in both]
        for child in both:
            child.proceed()
        outputs = [child.finish() for child in both]
    expected = 2 * IMAGES + 1
    for path in paths:
        np.testing.assert_array_equal(np.load(path), expected)
    output = "".join([line for lines in [*printed, outputs] for line in lines])
    assert output.count("computes from") == output.count("waiting for another process that is computing the same") == 1
    stored = entry_for(ABOUT).open((64, 4))
    np.testing.assert_array_equal(stored.array, expected)
    assert not list(entries()[0].folder.glob("*.part*"))


def test_if_the_first_dies_the_second_resumes_after_the_rows_it_saved(tmp_path):
    with children(CHILD, (tmp_path / "first.npy", 0), (tmp_path / "second.npy", 0)) as both:
        last_lines = [child.read_until("halfway", "waiting")[-1] for child in both]
        number = [line.startswith("halfway") for line in last_lines].index(True)
        first, second = both[number], both[1 - number]
        first.process.kill()
        assert second.read_until("computes")[-1] == "computes from 24\n"
        second.proceed()
        second.finish()
    path = tmp_path / ("second.npy" if number == 0 else "first.npy")
    np.testing.assert_array_equal(np.load(path), 2 * IMAGES + 1)


def test_an_array_that_a_process_is_computing_is_not_removed(tmp_path, capsys):
    other = {"backbone": "MobileNet"}
    undisturbed(entry_for(other), other)
    with children(CHILD, (tmp_path / "array.npy", 0)) as (child,):
        child.read_until("halfway")
        (part,) = entry_for(ABOUT).folder.glob("*.part.npy")
        os.utime(part, (1, 1))  # as if nobody had touched it for years
        assert evict(0) == 1
        assert main(["cache", "--clear"]) == 0
        assert "kept: 1 that other processes are writing now" in capsys.readouterr().out
        assert part.is_file()
        child.proceed()
        child.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "array.npy"), 2 * IMAGES + 1)
    assert [entry.key for entry in entries()] == [entry_for(ABOUT).key]
    assert main(["cache", "--clear"]) == 0
    assert not entry_for(ABOUT).folder.exists()


def test_an_array_that_is_removed_while_it_is_opened_is_computed_again(monkeypatch):
    undisturbed(entry_for(ABOUT))
    real, removed = os.utime, []

    def utime(path, *times):
        real(path, *times)
        if not removed:
            removed.append(evict(0))

    monkeypatch.setattr(store.os, "utime", utime)
    np.testing.assert_array_equal(undisturbed(entry_for(ABOUT)).array, 2 * IMAGES + 1)
    assert removed == [1]


def test_a_file_cut_off_before_its_first_save_is_computed_from_the_start():
    entry = entry_for(ABOUT)
    entry.folder.mkdir(parents=True)
    for name, content in (("a", b""), ("b", b"\x93NUMPY"), ("c", b"something else")):
        (entry.folder / f"{entry.key}.{name}.part.npy").write_bytes(content)
        (entry.folder / f"{entry.key}.{name}.part.json").write_text('{"rows": 8, "seconds": 1.0}')
    np.testing.assert_array_equal(undisturbed(entry).array, 2 * IMAGES + 1)
    assert not list(entry.folder.glob("*.part*"))


def test_files_that_are_being_written_are_not_entries():
    undisturbed(entry_for(ABOUT))
    being_written = entry_for(ABOUT).folder / ".writing-1-abc.json"
    being_written.write_text("{")
    os.utime(being_written, (1, 1))  # as if nobody had touched it for years
    assert [entry.key for entry in entries()] == [entry_for(ABOUT).key]
    with wait_for_lock(being_written.with_name("abc.lock"), "writing it", Log()):
        assert evict(0) == 1
        assert being_written.exists()
    assert evict(0) == 0
    assert not being_written.exists()


def test_a_process_killed_before_it_named_its_array_left_nothing_to_compute(monkeypatch):
    entry, real = entry_for(ABOUT), os.replace

    def killed(source, target):
        if str(target) == str(entry.array):
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store.os, "replace", killed)
        undisturbed(entry)
    assert entries() == []
    evict(0)

    def never(images):
        raise AssertionError("computed again")

    monkeypatch.setattr(np, "ascontiguousarray", never)
    np.testing.assert_array_equal(undisturbed(entry).array, 2 * IMAGES + 1)
    assert {path for path in entry.folder.iterdir() if path != entry.lock_file} == {entry.array, entry.facts}


def test_what_can_neither_be_used_nor_resumed_is_removed_unless_its_lock_is_held():
    undisturbed(entry_for(ABOUT))
    folder = entry_for(ABOUT).folder
    finished = {path for path in folder.iterdir() if path.suffix != ".lock"}
    orphans = {
        folder / name for name in ("b.npy", "c.1f.part.npy", "d.1f.part.json", ".writing-0123456789abcdef-e.json")
    }
    for path in orphans:
        path.write_bytes(b"")
    with ExitStack() as locks:
        for name in "bcde":
            locks.enter_context(wait_for_lock(folder / f"{name}.lock", "writing it", Log()))
        evict(1 << 30)
        assert orphans <= set(folder.iterdir())
    evict(1 << 30)
    assert {path for path in folder.iterdir() if path.suffix != ".lock"} == finished


@pytest.mark.parametrize(
    ("file", "damage"),
    [("array", name) for name in DAMAGE] + [("facts", name) for name in ("empty", "zeros", "cut to half", "one digit")],
)
def test_damaged_features_are_computed_again_and_the_run_says_so(capsys, file, damage):
    entry, log = entry_for(ABOUT), WarningsLog()
    undisturbed(entry, log=log)
    assert log.warned == []
    {**DAMAGE, "one digit": change_digit}[damage](getattr(entry, file))
    assert main(["cache"]) == 0
    assert ("runs that need it compute it again" in capsys.readouterr().out) == (file == "facts")
    np.testing.assert_array_equal(undisturbed(entry, log=log).array, 2 * IMAGES + 1)
    (warning,) = log.warned
    assert f"{entry.array} are damaged" in warning
    undisturbed(entry, log=log)
    assert len(log.warned) == 1


@pytest.mark.parametrize("damage", [*DAMAGE, "none"])
def test_an_unfinished_array_that_was_damaged_is_computed_from_the_start(monkeypatch, damage):
    monkeypatch.setattr(store, "SAVE_SECONDS", 0.0)
    entry, requested = entry_for(ABOUT), []

    def stops(done):
        yield from (IMAGES[start : start + 8] for start in range(done, 40, 8))
        raise KeyboardInterrupt

    def to_the_end(done):
        requested.append(done)
        return (IMAGES[start : start + 8] for start in range(done, 64, 8))

    forward = (lambda images: 2 * images + 1, 1)
    with pytest.raises(KeyboardInterrupt):
        load_or_compute_features(lambda: forward, stops, (64, 4), entry, ABOUT, lambda count: None, Log())
    (part,) = entry.folder.glob("*.part.npy")
    saved = part.read_bytes()
    if damage != "none":
        part.write_bytes(saved[: -24 * 16])  # a byte of the rows that are still missing would harm nothing
        DAMAGE[damage](part)
        part.write_bytes(part.read_bytes() + saved[-24 * 16 :])
    array = load_or_compute_features(
        lambda: forward, to_the_end, (64, 4), entry, ABOUT, lambda count: None, Log()
    ).array
    np.testing.assert_array_equal(array, 2 * IMAGES + 1)
    assert requested == [40 if damage == "none" else 0]
    assert not list(entry.folder.glob("*.part*"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<f4", b">f4"),  # the same bytes, read as other numbers
        (b"<f4", b"<i4"),
        (b"(64, 4)", b"(32, 8)"),
        (b"{'descr'", b"\x01'descr'"),  # no longer Python: NumPy raises more than ValueError
        (b"'fortran_order': False", b"'fortran_order': 0x   "),
    ],
)
def test_a_changed_header_is_damage_though_the_values_are_whole(old, new):
    entry, log = entry_for(ABOUT), WarningsLog()
    undisturbed(entry, log=log)
    content = entry.array.read_bytes()
    assert content.count(old) == 1
    entry.array.write_bytes(content.replace(old, new))
    np.testing.assert_array_equal(undisturbed(entry, log=log).array, 2 * IMAGES + 1)
    (warning,) = log.warned
    assert "are damaged" in warning


def test_features_of_another_account_are_used_and_unreadable_ones_are_an_error(monkeypatch):
    entry, log = entry_for(ABOUT), WarningsLog()
    undisturbed(entry, log=log)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.os, "utime", refuse)
    assert entry.open((64, 4)) is not None
    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    with pytest.raises(UserError, match=f"{entry.key}.npy cannot be read: Permission denied; check its permissions"):
        undisturbed(entry, log=log)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match=f"{entry.key}.json cannot be read: Permission denied; check its permissions"):
        undisturbed(entry, log=log)
    assert log.warned == []


def test_a_disk_that_changes_what_is_written_is_an_error(monkeypatch):
    entry, real = entry_for(ABOUT), os.replace

    def replace_and_change(source, target):
        real(source, target)
        if str(target).endswith(".npy"):
            DAMAGE["last byte"](Path(target))

    monkeypatch.setattr(os, "replace", replace_and_change)
    with pytest.raises(RunError, match="cannot be read back as it was written"):
        undisturbed(entry)
