"""Files that appear whole or not at all, and JSON that holds any name."""

import json
import os

import pytest

from keras_bench.files import final_name, replacing, replacing_folder, sweep, write_json, write_text
from keras_bench.printable import UNSAFE


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_nan_never_reaches_a_json_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "result.json", {"top1": float("nan")})
    assert not (tmp_path / "result.json").exists()


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    bundle = tmp_path / "exports" / "bundle"
    for content in ("old", "new"):
        with replacing_folder(bundle) as folder:
            (folder / "model").write_text(content)
    with pytest.raises(RuntimeError, match="power cut"), replacing_folder(bundle) as folder:
        (folder / "model").write_text("half")
        raise RuntimeError("power cut")
    assert (bundle / "model").read_text() == "new"
    assert [entry.name for entry in bundle.parent.iterdir()] == ["bundle"]


def killed_while_replacing(folder, monkeypatch, renamings):
    """Write a folder twice; the second time the process is killed after so many of the two renamings."""
    with replacing_folder(folder) as temporary:
        (temporary / "model").write_text("old")
    done, real = [], os.replace

    def replace(source, target):
        if len(done) == renamings:
            raise KeyboardInterrupt
        done.append(real(source, target))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_bench.files.os.replace", replace)
        patch.setattr("keras_bench.files.shutil.rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        with replacing_folder(folder) as temporary:
            (temporary / "model").write_text("new")
        raise KeyboardInterrupt


@pytest.mark.parametrize(("renamings", "kept"), [(0, "old"), (1, "old"), (2, "new")])
def test_after_a_killed_swap_of_folders_the_whole_one_is_there_and_nothing_else(tmp_path, monkeypatch, renamings, kept):
    bundle = tmp_path / "bundle"
    killed_while_replacing(bundle, monkeypatch, renamings)
    assert bundle.is_dir() == (renamings != 1)
    sweep(tmp_path, "bundle".__eq__)
    assert (bundle / "model").read_text() == kept
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_only_names_under_the_lock_are_swept_and_no_others(tmp_path):
    names = [".writing-0123456789abcdef-a.json", ".writing-17-a.json", ".writing-a.json"]
    others = [".writing-0123456789abcdef-b.json", "a.json", "writing-a.json", ".a.json", "a.json.part", "photo.part"]
    (tmp_path / "below").mkdir()
    for name in [*names, *others, f"below/{names[0]}"]:
        (tmp_path / name).write_text("")
    (tmp_path / "a.json.part").unlink()
    (tmp_path / "a.json.part").mkdir()  # a folder that an earlier version was extracting
    sweep(tmp_path, "a.json".__eq__)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "below"} - {"a.json.part"}
    assert (tmp_path / "below" / names[0]).exists()
    sweep(tmp_path, "a.json".__eq__, recursive=True)
    assert not list((tmp_path / "below").iterdir())
    sweep(tmp_path / "missing", "a.json".__eq__)


def test_an_unfinished_folder_is_removed_with_everything_in_it(tmp_path):
    folder = tmp_path / ".writing-0123456789abcdef-bundle"
    (folder / "sample").mkdir(parents=True)
    (folder / "sample" / "1.png").write_bytes(b"")
    sweep(tmp_path, "other".__eq__, recursive=True)
    assert (folder / "sample" / "1.png").exists()
    sweep(tmp_path, "bundle".__eq__)
    assert not list(tmp_path.iterdir())


def test_a_temporary_name_tells_the_final_one(tmp_path):
    with replacing(tmp_path / "12-34.weights.h5") as temporary:
        assert final_name(temporary) == "12-34.weights.h5"
        temporary.touch()
    assert final_name(tmp_path / "result.json") is None


def test_json_holds_any_name_and_shows_no_control_character(tmp_path):
    names = {"a\x1b[2J\x7f": "\x9b\u202e\n", "\udce9.jpg": "\U000e0041 é 🦔"}
    write_json(tmp_path / "names.json", names)
    content = (tmp_path / "names.json").read_text(encoding="utf-8")
    assert json.loads(content) == names
    assert not UNSAFE.search(content.replace("\n", ""))
    assert "é 🦔" in content
