import shutil
import stat
import zipfile

import pytest

from keras_bench.console import Log
from keras_bench.data.archive import extract_archive, extracted
from keras_bench.errors import UserError


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


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_entries_that_would_leave_the_folder_are_refused_before_anything_is_written(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.txt": "1", name: "2"})
    with pytest.raises(UserError, match="refused, its entry .*evil.txt' would leave the folder"):
        extract_archive(archive, tmp_path / "out", Log())
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("evil.txt"))


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
    with pytest.raises(UserError, match=r"it holds 0.0 GB but only 0.0 GB may be used"):
        extract_archive(archive, tmp_path / "out", Log())
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
