"""`keras-bench audit` on the command line: exit codes, files, and class names that contain markup."""

import json
import re
import shlex

import pytest

from keras_bench.cli.main import main
from tests.audit.test_inspect import put, scene
from tests.checks import loaded_by
from tests.conftest import encoded

HOSTILE = ("<script>alert(1)</script>".replace("/", "\u2215"), "قطة", "🦔 [red]hedgehog[/red]".replace("/", "\u2215"))


@pytest.fixture
def clean(tmp_path):
    for number, name in enumerate(HOSTILE):
        for i in range(15):
            put(tmp_path / "photos", f"{name}/{i}.jpg", encoded(scene(100 * number + i)))
    return tmp_path / "photos"


def test_clean_data_ends_with_zero_and_the_next_command(clean, tmp_path, capsys):
    page, findings = tmp_path / "audit.html", tmp_path / "audit.json"
    before = sorted(path.stat().st_mtime_ns for path in clean.rglob("*"))
    assert main(["audit", str(clean), "--html", str(page), "--json", str(findings)]) == 0
    output = capsys.readouterr().out
    assert "no problem found" in output
    assert f"next: keras-bench run --experiment folder --data {clean} --dry-run" in output
    assert "[red]hedgehog" in output
    assert json.loads(findings.read_text())["images"] == 45
    text = page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "قطة" in text
    assert sorted(path.stat().st_mtime_ns for path in clean.rglob("*")) == before


def test_the_next_command_names_the_experiment_that_was_audited(clean, capsys):
    assert main(["audit", str(clean), "--experiment", "intel"]) == 0
    assert f"next: keras-bench run --experiment intel --data {clean} --dry-run" in capsys.readouterr().out
    assert main(["audit", str(clean), "--experiment", "tiny-imagenet", "--set", "dataset.source=folder"]) == 0
    command = f"keras-bench run --experiment tiny-imagenet --data {clean} --set dataset.source=folder --dry-run"
    assert f"next: {command}" in capsys.readouterr().out


def test_the_next_command_can_be_pasted_with_any_path(clean, capsys):
    data = clean.rename(clean.with_name("my 'best' photos"))
    assert main(["audit", str(data)]) == 0
    command = re.search(r"next: (.*)", capsys.readouterr().out)[1]
    assert shlex.split(command) == ["keras-bench", "run", "--experiment", "folder", "--data", str(data), "--dry-run"]


def test_problems_end_with_exit_code_one(clean, capsys):
    put(clean, f"{HOSTILE[0]}/copy.jpg", (clean / HOSTILE[0] / "0.jpg").read_bytes())
    put(clean, f"{HOSTILE[0]}/broken.jpg", b"not an image")
    assert main(["audit", str(clean)]) == 1
    output = capsys.readouterr().out
    assert "warning: unreadable images: 1" in output
    assert "warning: groups of duplicates: 1 exact, 0 near" in output
    assert "2 problems found" in output or "3 problems found" in output  # the copy may have fallen into another split


def test_bad_input_ends_with_exit_code_two_and_no_file_is_replaced(clean, tmp_path, capsys):
    assert main(["audit", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    assert main(["audit", str(clean), "--json", str(kept)]) == 2
    assert "exists; choose another name, or replace it with --force" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert main(["audit", str(clean), "--json", str(kept), "--force"]) == 0
    assert main(["audit", str(clean), "--source", "folders"]) == 2
    assert "dataset.source" in capsys.readouterr().err


def test_the_bundled_digits_and_an_experiment_can_be_audited_without_tensorflow():
    code, output, loaded = loaded_by(["audit", "--experiment", "demo"])
    assert (code, loaded) == (0, [])
    assert "896, of them 0 unreadable" in output
    assert "0 exact, 0 near" in output  # scans of 8×8 pixels are too small to be compared


def test_classes_are_shown_with_their_titles(tiny_imagenet_folder, tmp_path, capsys):
    page = tmp_path / "audit.html"
    assert main(["audit", str(tiny_imagenet_folder), "--html", str(page)]) in (0, 1)
    assert "goldfish, Carassius auratus (n01000000)" in page.read_text()
    assert "n01000000" in capsys.readouterr().out
