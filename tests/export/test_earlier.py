"""Bundles that are made again: the changed files, what a user put into the earlier one, and its signature."""

import shutil

import pytest

from keras_bench.export.earlier import changed_in_bundle, place_to_keep, report_replaced
from keras_bench.files import replacing_folder
from tests.logs import WarningsLog
from tests.made_bundle import make_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def replaced(folder):
    """Make a bundle anew as an export does, and return what the log says."""
    log = WarningsLog()
    kept, was_signed = place_to_keep(folder), (folder / "SHA256SUMS.sig").is_file()
    with replacing_folder(folder, lambda: kept) as unfinished:
        (unfinished / "model.onnx").write_bytes(b"new")
    report_replaced(folder, kept, was_signed, log)
    return log.warned


def test_the_changed_file_of_a_bundle_is_named(bundle):
    assert changed_in_bundle(bundle) == []
    (bundle / "MODEL_CARD.md").write_text("My own words.\n")
    (bundle / "sample" / "1.png").unlink()
    assert changed_in_bundle(bundle) == [bundle / "MODEL_CARD.md", bundle / "sample" / "1.png"]
    (bundle / "SHA256SUMS").write_bytes(b"\xff")
    assert changed_in_bundle(bundle) == [bundle / "SHA256SUMS"]


def test_a_replaced_bundle_is_kept_where_a_user_edited_or_added_files(bundle):
    def edit_card(folder):
        (folder / "MODEL_CARD.md").write_text("My own words.\n")

    def add_notes(folder):
        (folder / "NOTES.txt").write_text("mine")

    def add_notes_and_damage_sums(folder):
        add_notes(folder)
        (folder / "SHA256SUMS").write_bytes(b"\xff")

    whole = shutil.copytree(bundle, bundle.with_name("whole"))
    for number, change in enumerate([edit_card, add_notes, add_notes_and_damage_sums], start=1):
        shutil.rmtree(bundle)
        shutil.copytree(whole, bundle)
        change(bundle)
        files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
        kept = bundle.with_name(f"bundle.replaced{f'-{number}' if number > 1 else ''}")
        (warning,) = replaced(bundle)
        assert warning.endswith(f"and is kept as {kept}")
        assert {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()} == files
        assert [path.name for path in bundle.iterdir()] == ["model.onnx"]


def test_a_damaged_bundle_without_anything_of_a_user_is_only_replaced(bundle):
    (bundle / "model.onnx").write_bytes(b"damaged")
    (bundle / "MODEL_CARD.md").unlink()
    assert replaced(bundle) == []
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle"]


def test_a_lost_signature_is_named_with_the_command_that_signs_again(bundle):
    spaced = bundle.rename(bundle.with_name("my bundle"))
    (spaced / "SHA256SUMS.sig").write_bytes(bytes(64))
    (warning,) = replaced(spaced)
    assert warning.startswith(
        f"{spaced} is made anew, so its signature is gone; sign it again: keras-bench export '{spaced}'"
    )
    assert warning.endswith("' --sign PRIVATE_KEY.pem")


def test_a_signature_is_no_change_and_nothing_of_a_user(bundle):
    (bundle / "SHA256SUMS.sig").write_bytes(bytes(64))
    assert changed_in_bundle(bundle) == []
    assert place_to_keep(bundle) is None
    (bundle / "SHA256SUMS").write_bytes(b"\xff")
    assert place_to_keep(bundle) is None
