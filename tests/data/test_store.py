import os
import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from keras_bench import locks
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import open_source
from keras_bench.data.store import ImageStore, decoded_folder, limit_decoded
from keras_bench.errors import RunError, UserError
from keras_bench.images import UnreadableImageError, decode
from keras_bench.locks import wait_for_lock
from tests.conftest import digit_image, encoded
from tests.damage import DAMAGE
from tests.logs import WarningsLog


def open_folder(path):
    return open_source(DatasetConfig(source="folder"), path, Log())


def test_images_come_decoded_from_memory_or_from_disk(image_folder):
    index = open_folder(image_folder)
    image_bytes = 16 * 16 * 3
    for limit, kept in ((1 << 30, 62 * image_bytes), (10 * image_bytes + 5, 10 * image_bytes), (0, 0)):
        store = ImageStore(index, limit)
        store.load(Log())
        assert store.kept_bytes == kept
        assert store.sizes == {(16, 16)}
        for position in (0, 30, 61):
            np.testing.assert_array_equal(store.image(position), decode(index.read(position)))
        assert store.batch(np.array([5, 3])).shape == (2, 16, 16, 3)


def test_a_file_without_read_permission_is_left_out_and_named(image_folder):
    index = open_folder(image_folder)

    def read(position):
        if position == 7:
            raise PermissionError(13, "Permission denied")
        return index.read(position)

    store = ImageStore(replace(index, read=read), 1 << 30)
    store.load(Log())
    assert store.unreadable == {7: "[Errno 13] Permission denied"}
    assert store.readable.sum() == 61


def test_the_next_run_on_the_same_data_reuses_the_decoded_images(image_folder, monkeypatch):
    (image_folder / "class 0" / "broken.jpg").write_bytes(b"not an image")
    index = open_folder(image_folder)
    first = ImageStore(index, 1 << 30)
    first.load(Log())

    def never(*_arguments):
        raise AssertionError("decoded twice")

    monkeypatch.setattr("keras_bench.data.store.decode", never)
    again = ImageStore(index, 1 << 30)
    again.load(Log())
    assert (again.unreadable, again.sizes, again.kept_bytes) == (first.unreadable, first.sizes, first.kept_bytes)
    np.testing.assert_array_equal(again.image(40), first.image(40))
    with pytest.raises(AssertionError, match="decoded twice"):
        ImageStore(index, 1 << 20).load(Log())  # another limit keeps other images
    (image_folder / "class 0" / "new.jpg").write_bytes(index.read(0))
    with pytest.raises(AssertionError, match="decoded twice"):
        ImageStore(open_folder(image_folder), 1 << 30).load(Log())  # other data


@pytest.mark.parametrize(
    ("suffix", "damage"),
    # The last byte of the table belongs to the length of the archive's comment, which nothing depends on.
    [(".pixels", name) for name in DAMAGE] + [(".npz", name) for name in DAMAGE if name != "last byte"],
)
def test_damaged_decoded_images_are_decoded_again_and_the_run_says_so(image_folder, suffix, damage):
    index, log = open_folder(image_folder), WarningsLog()
    first = ImageStore(index, 1 << 30)
    first.load(log)
    assert log.warned == []
    DAMAGE[damage](first.path.with_suffix(suffix))
    again = ImageStore(index, 1 << 30)
    again.load(log)
    (warning,) = log.warned
    assert f"{first.path} are damaged" in warning
    for position in range(62):
        np.testing.assert_array_equal(again.image(position), decode(index.read(position)))
    ImageStore(index, 1 << 30).load(log)
    assert len(log.warned) == 1


def test_a_table_that_zipfile_cannot_read_is_damage_too(image_folder):
    index, log = open_folder(image_folder), WarningsLog()
    store = ImageStore(index, 1 << 30)
    store.load(log)
    table = store.path.with_suffix(".npz")
    content = bytearray(table.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # "encrypted": zipfile raises RuntimeError
    table.write_bytes(content)
    ImageStore(index, 1 << 30).load(log)
    (warning,) = log.warned
    assert "are damaged" in warning


def test_a_disk_that_changes_decoded_images_is_an_error(image_folder, monkeypatch):
    real = os.replace

    def replace_and_change(source, target):
        real(source, target)
        if str(target).endswith(".pixels"):
            DAMAGE["last byte"](target)

    monkeypatch.setattr(os, "replace", replace_and_change)
    with pytest.raises(RunError, match="cannot be read back as it was written"):
        ImageStore(open_folder(image_folder), 1 << 30).load(Log())


def test_decoded_images_of_other_data_are_removed_first(image_folder, tmp_path):
    for copies in range(3):
        shutil.copytree(image_folder, tmp_path / f"data{copies}")
        (tmp_path / f"data{copies}" / "class 0" / "more.png").write_bytes(encoded(digit_image(copies), "PNG"))
        store = ImageStore(open_folder(tmp_path / f"data{copies}"), 1 << 30)
        store.load(Log())
        os.utime(decoded_folder() / store.path.with_suffix(".npz"), (copies, copies))
    limit_decoded(2 * store.kept_bytes)
    kept = sorted(path.name for path in decoded_folder().iterdir())
    assert len(kept) == 6  # two tables, their pixels and their locks
    assert store.path.name in kept
    limit_decoded(0)
    in_use = [store.path.with_suffix(suffix) for suffix in (".lock", ".npz", ".pixels")]
    assert sorted(decoded_folder().iterdir()) == in_use
    assert store.image(3).shape == (16, 16, 3)


def test_a_read_only_cache_above_its_limit_is_left_as_it_is(image_folder, monkeypatch):
    ImageStore(open_folder(image_folder), 1 << 30).load(Log())
    (decoded_folder() / "a.pixels").write_bytes(b"left by a killed process")
    kept = set(decoded_folder().iterdir())

    def refuse(*arguments):
        raise UserError("the lock cannot be created: Read-only file system")

    monkeypatch.setattr(locks, "_acquire_or_explain", refuse)
    limit_decoded(0)
    assert set(decoded_folder().iterdir()) == kept


def test_what_a_killed_process_left_of_decoded_images_is_removed_unless_its_lock_is_held(image_folder):
    store = ImageStore(open_folder(image_folder), 1 << 30)
    store.load(Log())
    kept = set(decoded_folder().iterdir())
    left = {decoded_folder() / name for name in ("a.pixels", ".writing-1-b.npz", ".writing-0123456789abcdef-c.pixels")}
    for path in left:
        path.write_bytes(b"")
    with ExitStack() as locks:
        for name in "abc":
            locks.enter_context(wait_for_lock(decoded_folder() / f"{name}.lock", "decoding", Log()))
        limit_decoded(1 << 30)
        assert left <= set(decoded_folder().iterdir())
    limit_decoded(1 << 30)
    assert {path for path in decoded_folder().iterdir() if path.suffix != ".lock"} == {
        path for path in kept if path.suffix != ".lock"
    }
    own = [
        decoded_folder() / f".writing-0123456789abcdef-{store.path.with_suffix(end).name}"
        for end in (".pixels", ".npz")
    ]
    for path in own:
        path.write_bytes(b"")
    store.path.unlink()
    ImageStore(open_folder(image_folder), 1 << 30).load(Log())
    assert not any(path.exists() for path in own)


def test_unreadable_images_are_found_before_training(image_folder):
    (image_folder / "class 0" / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (image_folder / "class 1" / "empty.png").write_bytes(b"")
    index = open_folder(image_folder)
    store = ImageStore(index, 1 << 30)
    store.load(Log())
    assert {index.ids[i]: why for i, why in store.unreadable.items()} == {
        "class 0/broken.jpg": "not a JPEG, PNG, BMP, GIF or WebP image",
        "class 1/empty.png": "the file is empty",
    }
    assert store.readable.sum() == 62
    with pytest.raises(UnreadableImageError, match="class 1/empty.png: the file is empty"):
        store.image(index.ids.index("class 1/empty.png"))


def test_the_fingerprint_depends_on_the_content_not_on_the_folder(image_folder, tmp_path):
    def fingerprint(index):
        return ImageStore(index, 0).fingerprint(Log())

    index = open_folder(image_folder)
    first = fingerprint(index)
    shutil.copytree(image_folder, tmp_path / "elsewhere")
    moved = open_folder(tmp_path / "elsewhere")
    assert fingerprint(moved) == first
    assert fingerprint(replace(index, class_names=("class 0", "class 1", "other"))) != first
    image = tmp_path / "elsewhere" / moved.ids[7]
    image.write_bytes(image.read_bytes() + b"\0")
    assert fingerprint(moved) != first
