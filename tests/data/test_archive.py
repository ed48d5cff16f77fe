import resource
import shutil
import signal
import stat
import tarfile
import warnings
import zipfile

import pytest

from keras_bench.console import Log
from keras_bench.data import zip_checks
from keras_bench.data.archive import extract_archive, extracted
from keras_bench.data.sources import guess_source
from keras_bench.disk import DiskFullError
from keras_bench.download import cache_folder
from keras_bench.errors import UserError
from keras_bench.locks import wait_for_lock


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_extracted_once_and_again_after_it_changed(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"x/one.txt": "1", "x/y/two.txt": "22"})
    folder = extracted(archive, Log())
    assert (folder / "x/y/two.txt").read_text() == "22"
    (folder / "x/one.txt").write_text("kept")
    assert (extracted(archive, Log()) / "x/one.txt").read_text() == "kept"
    make_zip(archive, {"x/one.txt": "changed"})
    assert (extracted(archive, Log()) / "x/one.txt").read_text() == "changed"


def test_what_killed_processes_left_of_extracted_folders_is_removed_unless_they_live(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"x/one.txt": "1"})
    folder = extracted(archive, Log())
    shutil.rmtree(folder)
    left = [f".writing-0123456789abcdef-{folder.name}", f"{folder.name}.part", "b.part", ".writing-0123456789abcdef-c"]
    for name in left:
        (folder.parent / name / "x").mkdir(parents=True)
    with wait_for_lock(folder.with_name("c.lock"), "extracting c", Log()):
        assert extracted(archive, Log()) == folder
        assert {path.name for path in folder.parent.iterdir() if path.is_dir()} == {folder.name, left[-1]}
    extracted(archive, Log())
    assert {path.name for path in folder.parent.iterdir() if path.is_dir()} == {folder.name}


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_entries_that_would_leave_the_folder_are_refused_before_anything_is_written(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.txt": "1", name: "2"})
    with pytest.raises(UserError, match="refused, its entry .*evil.txt' would leave the folder"):
        extract_archive(archive, tmp_path / "out", Log())
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_folder_with_a_colon_is_no_drive(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"1:1 views/a.txt": "1", "b:c/d.txt": "2"})
    extract_archive(archive, tmp_path / "out", Log())
    assert (tmp_path / "out" / "1:1 views" / "a.txt").read_text() == "1"


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="would leave the folder"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out", Log())


def test_an_archive_that_would_not_fit_the_disk_is_refused(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"big.bin": bytes(5_000_000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=(1 << 30) + 1_000_000))
    with pytest.raises(DiskFullError, match=r"it holds 0.0 GB but only 0.0 GB may be used"):
        extract_archive(archive, tmp_path / "out", Log())
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_while_an_archive_is_unpacked_is_named_as_everywhere(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"big.bin": bytes(5_000_000)})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does itself at its start
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
        with pytest.raises(
            DiskFullError, match=r"big\.bin cannot be written: the system allows no larger file; it needs"
        ):
            extract_archive(archive, tmp_path / "out", Log())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    assert not (tmp_path / "out").exists()


def test_damaged_archives_and_other_files_give_one_clear_error(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="not a readable zip archive"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out", Log())
    data = bytearray(make_zip(tmp_path / "b.zip", {"a.txt": "hello " * 1000}).read_bytes())
    data[45] ^= 0xFF  # inside the compressed bytes
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(UserError, match="not a readable zip archive"):
        extracted(tmp_path / "b.zip", Log())
    assert not (tmp_path / "out").exists()


def make_repeating_zip(path, *entries):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # "Duplicate name"
        for name, content in entries:
            archive.writestr(name, content)
    return path


def assert_refused(archive, match):
    """Assert that the archive is refused in one line by the verbs that read it, and nothing of it stays."""
    with pytest.raises(UserError, match=match) as refusal:
        extracted(archive, Log())
    assert "\n" not in str(refusal.value)
    assert [path.name for path in (cache_folder() / "extracted").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "entries",
    [[("cat", "1"), ("cat/1.jpg", "2")], [("cat/1.jpg", "2"), ("cat", "1")], [("cat/", ""), ("./cat", "1")]],
)
def test_a_file_that_is_also_a_folder_is_refused(tmp_path, entries):
    assert_refused(
        make_repeating_zip(tmp_path / "a.zip", *entries), "refused, its entry 'cat' is both a file and a fol"
    )


def test_an_entry_may_be_repeated_but_not_with_other_content(tmp_path):
    same = make_repeating_zip(tmp_path / "a.zip", ("cat/1.jpg", "1"), ("cat//1.jpg", "1"))
    assert (extracted(same, Log()) / "cat/1.jpg").read_text() == "1"
    shutil.rmtree(cache_folder())
    other = make_repeating_zip(tmp_path / "b.zip", ("cat/1.jpg", "1"), ("cat/1.jpg", "2"))
    assert_refused(other, "holds 'cat/1.jpg' twice with different contents")


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("Cat/1.jpg", "cat/2.jpg"), "'Cat' and 'cat'"),
        (("a/X.jpg", "a/x.jpg"), "'a/X.jpg' and 'a/x.jpg'"),
        (("\u00e9.jpg", "e\u0301.jpg"), "would be one"),
    ],
)
def test_names_that_the_file_system_takes_for_one_are_refused(tmp_path, monkeypatch, names, clash):
    archive = make_repeating_zip(tmp_path / "a.zip", *((name, name) for name in names))
    for name in names:
        assert (extracted(archive, Log()) / name).read_text() == name  # this file system tells them apart
    shutil.rmtree(cache_folder())
    monkeypatch.setattr("keras_bench.data.archive._ignores_case", lambda folder: True)
    assert_refused(archive, clash)


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "cat/" * 1500 + "1.jpg"])
def test_names_longer_than_the_file_system_takes_are_named(tmp_path, name):
    archive = make_repeating_zip(tmp_path / "a.zip", ("good.txt", "1"), (name, "2"))
    assert_refused(archive, r"its entry '.{80}…' cannot be written \(File name too long\)")


def test_the_archives_own_name_may_be_as_long_as_the_file_system_takes(tmp_path):
    archive = make_zip(tmp_path / f"{'é' * 125}.zip", {"one.txt": "1"})
    assert (extracted(archive, Log()) / "one.txt").read_text() == "1"


@pytest.mark.parametrize("names", [[], ["cat/", "dog/"]])
def test_an_archive_without_files_is_refused(tmp_path, names):
    assert_refused(make_repeating_zip(tmp_path / "a.zip", *((name, "") for name in names)), "holds no files")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_are_refused(tmp_path, kind):
    device = zipfile.ZipInfo("null")
    device.external_attr = (kind | 0o666) << 16
    assert_refused(make_repeating_zip(tmp_path / "a.zip", (device, "")), "its entry 'null' is a device or a pipe")


@pytest.mark.parametrize(("offset", "value", "match"), [(8, 1, "encrypted"), (10, 9, "compressed by method 9")])
def test_what_python_cannot_unpack_says_so(tmp_path, offset, value, match):
    archive = make_zip(tmp_path / "a.zip", {"table.csv": "path,label"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    archive.write_bytes(content)
    assert guess_source(archive) == "folder"
    assert_refused(archive, f"its entry 'table.csv' is {match}.*; unpack it yourself and pass the folder")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_inside_any_compression_is_one_line(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("table.csv", bytes(range(256)) * 400)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for position in range(60, 120):
        content[position] ^= 0x55
    (tmp_path / "a.zip").write_bytes(content)
    assert guess_source(tmp_path / "a.zip") == "folder"
    assert_refused(tmp_path / "a.zip", "not a readable zip archive")


def test_other_archives_are_named(tmp_path):
    (tmp_path / "one.txt").write_text("1")
    for mode, kind in {"": "a tar archive", "gz": "a gzip file", "bz2": "a bzip2 file", "xz": "an xz file"}.items():
        archive = tmp_path / f"a.tar.{mode}"
        with tarfile.open(archive, f"w:{mode}") as content:
            content.add(tmp_path / "one.txt", "../one.txt")
        with pytest.raises(UserError, match=f"expected a folder or a zip.*but {kind}.*unpack it yourself"):
            guess_source(archive)
        assert_refused(archive, f"not a readable zip archive but {kind}")


@pytest.fixture
def bomb(tmp_path):
    """A zip of 200 kB of zeros in about 300 bytes."""
    return make_zip(tmp_path / "a.zip", {"zeros.bmp": bytes(200_000)})


def test_an_archive_that_unpacks_to_suspiciously_much_is_refused(bomb, monkeypatch):
    monkeypatch.setattr(zip_checks, "UNSUSPICIOUS_BYTES", 200_000)
    extracted(bomb, Log())
    shutil.rmtree(cache_folder())
    monkeypatch.setattr(zip_checks, "UNSUSPICIOUS_BYTES", 199_999)
    assert_refused(bomb, r"[456]\d\d times as much, expected at most 100 times; .* set KERAS_BENCH_MAX_ZIP_RATIO")
    monkeypatch.setenv("KERAS_BENCH_MAX_ZIP_RATIO", "1000")
    assert (extracted(bomb, Log()) / "zeros.bmp").stat().st_size == 200_000


@pytest.mark.parametrize("value", ["lots", "0", "-1", "nan"])
def test_a_ratio_that_is_no_number_is_refused(bomb, monkeypatch, value):
    monkeypatch.setenv("KERAS_BENCH_MAX_ZIP_RATIO", value)
    assert_refused(bomb, f"KERAS_BENCH_MAX_ZIP_RATIO: expected a positive number, received '{value}'")


def test_entries_that_share_their_compressed_bytes_are_refused(tmp_path):
    """The idea of 42.zip's successors (Fifield 2019): every entry points to the same bytes."""
    archive = make_zip(tmp_path / "a.zip", {f"{name}.txt": bytes(100_000) for name in "abcdefgh"})
    content = archive.read_bytes()
    first = content.index(b"PK\x01\x02")
    directory = bytearray(content[first:])
    position = 0
    for _ in range(8):
        directory[position + 42 : position + 46] = bytes(4)  # the offset of the entry: the first entry's
        position = directory.find(b"PK\x01\x02", position + 4)
    end = directory.index(b"PK\x05\x06")
    kept = content[: content.index(b"PK\x03\x04", 4)]
    directory[end + 16 : end + 20] = len(kept).to_bytes(4, "little")
    archive.write_bytes(kept + directory)
    assert_refused(archive, "its entries overlap")
