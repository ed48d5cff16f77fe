"""Full disks and folders that cannot be written to: one line that says what, why and what to do."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_bench.cli import main as cli
from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.disk import (
    DiskFullError,
    allocate,
    describe_os_error,
    require_space,
    require_writable,
    size_text,
    writing,
)
from keras_bench.errors import UserError
from keras_bench.files import replacing, write_bytes
from keras_bench.frames import append_frame, frame_of
from keras_bench.runs.data import require_folders
from keras_bench.runs.job import Request, resolve


def test_sizes_are_readable():
    sizes = {0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 56_400_000: "56 MB", 1_640_000_000: "1.6 GB"}
    sizes |= {999_499: "999 kB", 999_500: "1.0 MB", 9_949: "9.9 kB", 9_950: "10 kB", 3_000_000_000_000_000: "3,000 TB"}
    assert {count: size_text(count) for count in sizes} == sizes


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "this account's quota is used up"),
        (errno.EFBIG, "the system allows no larger file"),
    ],
)
def test_a_full_disk_is_one_line_with_what_is_needed_and_what_is_free(tmp_path, monkeypatch, number, reason):
    free = shutil.disk_usage(tmp_path)._replace(free=1_200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    path = tmp_path / "model.keras"
    with pytest.raises(DiskFullError) as refusal, replacing(path, 34_000_000) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert str(refusal.value).startswith(
        f"{path} cannot be written: {reason}; it needs 34 MB, and 1.2 MB are free there. Make room and repeat"
    )
    assert not list(tmp_path.iterdir())


def test_what_is_free_is_counted_after_the_unfinished_file_is_removed(tmp_path, monkeypatch):
    real, seen = shutil.disk_usage, []

    def usage(folder):
        seen.append(list(Path(folder).iterdir()))
        return real(folder)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(DiskFullError), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")
    assert seen == [[]]


def test_other_errors_of_the_system_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError), writing(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_too_little_space_is_refused_before_anything_is_written(tmp_path):
    require_space(tmp_path / "not" / "yet" / "there", 1)
    with pytest.raises(DiskFullError, match=r"there cannot be written: the disk is too full; it needs 2,000,000 TB"):
        require_space(tmp_path / "there", 2 * 10**18)


# A process may be forbidden files beyond a size. The system then refuses a write as it does on a full disk, so this
# needs no disk of its own. EFBIG instead of the signal that ends the process: Python ignores SIGXFSZ.
def limited(size, code, *arguments):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=120)


FEATURES = """
import sys, numpy as np
from keras_bench.console import Log
from keras_bench.errors import RunError
from keras_bench.training.feature_store import entry_for, load_or_compute_features

images = np.ones((64, 4096), np.float32)
batches = lambda done: (images[start : start + 8] for start in range(done, 64, 8))
try:
    forward, entry = (lambda: (lambda x: x, 1)), entry_for({"question": 1})
    stored = load_or_compute_features(forward, batches, (64, 4096), entry, {}, lambda count: None, Log())
    print("computed", stored.array.sum())
except RunError as error:
    print("refused", error, len(list(entry.folder.glob("*.npy"))))
"""


def test_features_that_do_not_fit_are_an_error_and_not_the_end_of_the_process():
    done = limited(500_000, FEATURES)
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
    assert "cannot be written: the system allows no larger file; it needs 1.0 MB, and " in done.stdout
    assert done.stdout.endswith(" 0\n")  # nothing is left of it
    done = limited(1 << 30, FEATURES)
    assert done.stdout == f"computed {64 * 4096:.1f}\n", done.stderr


def test_a_reserved_file_keeps_its_content_and_has_its_blocks(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(b"kept")
    with path.open("r+b") as stream:
        stream.truncate(1 << 20)
    allocate(path)
    assert path.read_bytes() == b"kept" + bytes((1 << 20) - 4)
    assert 512 * path.stat().st_blocks >= 1 << 20


SAVING = """
import sys
from pathlib import Path
import keras
from keras_bench.errors import RunError
from keras_bench.models.saving import save_model, save_weights

image = keras.Input((1000,))
model = keras.Model(image, keras.layers.Dense(1000)(image))
model.compile("adam", "mse")
model.optimizer.build(model.trainable_variables)
for save, name in ((save_weights, "a.weights.h5"), (save_model, "a.keras")):
    path = Path(sys.argv[1], name)
    try:
        save(model, path)
        model.load_weights(path)
        print("saved", path.stat().st_size)
    except RunError as error:
        print("refused", error)
print("left", len(list(Path(sys.argv[1]).iterdir())))
"""


def test_models_that_do_not_fit_are_an_error_and_not_the_end_of_the_process(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    done = limited(2_000_000, SAVING, folder)
    assert done.returncode == 0, done.stderr  # HDF5 that writes to the file itself ends with signal 11
    weights, model, left = done.stdout.splitlines()
    assert "a.weights.h5 cannot be written: the system allows no larger file; it needs 12 MB, and " in weights
    assert "a.keras cannot be written: the system allows no larger file; it needs 13 MB, and " in model
    assert left == "left 0"
    done = limited(1 << 30, SAVING, folder)
    weights, model, left = done.stdout.splitlines()
    assert [weights.split()[0], model.split()[0], left] == ["saved", "saved", "left 2"]


def test_run_log_and_history_say_so_too(tmp_path, monkeypatch):
    log, real = Log(), Path.open
    log.path = tmp_path / "run.log"

    def full(path, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(DiskFullError, match=r"run\.log cannot be written: the disk"):
        patch.setattr(Path, "open", full)
        log.line("hello")
    assert Path.open is real
    monkeypatch.setattr("pandas.DataFrame.to_csv", full)
    with pytest.raises(DiskFullError, match=r"history\.csv cannot be written: the disk is full"):
        append_frame(tmp_path / "history.csv", frame_of([{"epoch": 1}]), ["epoch"])


RUN = ["run", "--experiment", "digits", "--model", "MobileNet", "--phase", "scratch", "--weights", "none"]


def refusal_of(capsys, *words, code=2):
    assert main([*RUN, *map(str, words)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    return error.removeprefix("error: ")


def test_what_cannot_be_written_is_refused_before_anything_begins(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("keras_bench.workflow.run.find_whole_weights", lambda *_: pytest.fail("it began"))
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        text = refusal_of(capsys, "--out", folder)
        assert text.startswith(f"{folder}/digits/MobileNet/seed0: nothing can be written there (Not a directory); a ")
        assert text.rstrip().endswith("a file is where a folder is expected; set another folder by --out")
    assert "set another folder by --exports" in refusal_of(capsys, "--out", tmp_path / "out", "--exports", file)
    assert "nothing can be written there" in refusal_of(capsys, "--out", "/proc/runs")
    text = refusal_of(capsys, "--out", tmp_path / "out", "--variant", "v" * 300)
    assert "has 307 bytes, expected at most 255" in text
    assert "the path is too long" in refusal_of(capsys, "--out", tmp_path / "/".join(["long"] * 900))
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(file / "cache"))
    assert "set another folder by $KERAS_BENCH_CACHE" in refusal_of(capsys, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing was created


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"\(Read-only file system\); use a folder on a file system that is not read"):
        require_writable(tmp_path / "runs", "--out")


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied; grant this account", 2),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "/a/b: Input/output error; check the disk and repeat", 1),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/a"), "/a: File name too long; use a shorter name", 2),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "/a cannot be written: the disk is full; ", 1),
        (OSError("no number"), "the system refused to read or write a file: no number; check the disk", 1),
        (FileNotFoundError(errno.ENOENT, "gone", "/a", None, "/b"), "/a -> /b: gone; it was removed, or never", 2),
    ],
)
def test_an_error_of_the_system_that_nobody_expected_is_one_line(capsys, monkeypatch, error, text, code):
    def fail(command):
        raise error

    monkeypatch.setattr(cli, "parse", fail)
    assert refusal_of(capsys, code=code).startswith(text)
    assert main([*RUN, "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_the_end_of_what_reads_the_output_is_no_error():
    reading, writing_end = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "keras_bench", "models"]
    try:
        done = subprocess.run(command, stdout=writing_end, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(writing_end)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_file_that_fits_is_written_without_a_word(tmp_path):
    write_bytes(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_full_disk_without_a_name_is_that_of_standard_output():
    text, code = describe_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert (text.partition(";")[0], code) == ("standard output cannot be written: the disk is full", 1)


def test_a_cache_that_holds_something_may_be_read_only(tmp_path, monkeypatch):
    """What a run needs may all be there; an empty one is of no use."""
    cache, real = tmp_path / "cache", tempfile.TemporaryFile
    cache.mkdir()

    def refuse(*arguments, dir, **options):
        if Path(dir) == cache:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(*arguments, dir=dir, **options)

    monkeypatch.setenv("KERAS_BENCH_CACHE", str(cache))
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    job = resolve(Request("digits", "MobileNet", "tl", out=tmp_path / "runs", weights="none"))
    with pytest.raises(UserError, match="Read-only"):
        require_folders(job)
    (cache / "decoded").mkdir()
    require_folders(job)
