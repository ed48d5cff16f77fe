"""What `verify`, `predict` and a bundle's own `predict.py` say about damaged files and checksums."""

import os
import shutil

import pytest

from keras_bench.bundle.sums import BundleError, ChangedBundleError, check_sums, read_sums, unlisted_files
from keras_bench.cli.main import main
from tests.bundle_ways import refusal, ways
from tests.damage import DAMAGE
from tests.made_bundle import expected, picture

KINDS = {**{kind: DAMAGE[kind] for kind in ("empty", "cut to half", "one byte in the middle")}, "missing": os.remove}
READ_BY_PREDICT = ("model.onnx", "labels.json", "SHA256SUMS")


FILES = (*READ_BY_PREDICT, "model.int8.onnx", "predict.py", "verification.json", "MODEL_CARD.md")
SAMPLES = ("sample/1.png", "sample/2.png", "sample/expected.json")


def test_the_files_below_are_all_files_of_a_bundle(whole):
    assert {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()} == {*FILES, *SAMPLES}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*FILES, *SAMPLES])
def test_every_damaged_file_is_refused_by_what_reads_it(bundle, photo, own_main, capsys, name, kind):
    KINDS[kind](bundle / name)
    for way, run in ways(bundle, photo, own_main).items():
        read = {*READ_BY_PREDICT[1:], "model.int8.onnx" if "int8" in way else "model.onnx"}
        if "verify" not in way and name not in read:
            assert run() == 0, way
            assert f"{expected(picture(5)).max():.2%}" in capsys.readouterr().out
            continue
        is_malformed = name == "SHA256SUMS" and kind != "missing"
        line = refusal(capsys, run, 1 if way == "verify" and not is_malformed else 2)
        assert name in line, (way, line)


def test_a_whole_bundle_is_accepted_in_every_way(bundle, photo, own_main, capsys):
    for way, run in ways(bundle, photo, own_main).items():
        assert run() == 0, way
    assert capsys.readouterr().err == ""


DIGEST = "a" * 64
SUMS = {
    "not UTF-8": (b"\xff\xfe", "expected UTF-8 text"),
    "empty": (b"", "lists no files"),
    "no digest": (b"hello\n", "line 1: expected a sha256, two spaces and a file name"),
    "a short digest": (b"abc  model.onnx\n", "line 1: expected a sha256"),
    "an empty line": (f"{DIGEST}  a\n\n{DIGEST}  b\n".encode(), "line 2: expected a sha256"),
    "an absolute path": (f"{DIGEST}  /etc/passwd\n".encode(), "expected a file of the bundle, received /etc/passwd"),
    "a folder above": (
        f"{DIGEST}  sample/../../x\n".encode(),
        "expected a file of the bundle, received sample/../../x",
    ),
    "a backslash": (f"{DIGEST}  sample\\1.png\n".encode(), "expected a file of the bundle"),
    "a drive": (f"{DIGEST}  C:/x\n".encode(), "expected a file of the bundle, received C:/x"),
    "the folder itself": (f"{DIGEST}  .\n".encode(), "expected a file of the bundle, received ."),
    "two slashes": (f"{DIGEST}  sample//1.png\n".encode(), "expected a file of the bundle"),
    "an escape": (f"{DIGEST}  \x1b[31mred\n".encode(), r"received \x1b[31mred"),
    "a zero byte": (f"{DIGEST}  a\0b\n".encode(), r"received a\x00b"),
}


@pytest.mark.parametrize(("content", "reason"), SUMS.values(), ids=SUMS)
def test_malformed_sums_are_refused(bundle, photo, own_main, capsys, content, reason):
    (bundle / "SHA256SUMS").write_bytes(content)
    for run in ways(bundle, photo, own_main).values():
        line = refusal(capsys, run, 2)
        assert "SHA256SUMS" in line
        assert reason in line


def test_a_file_listed_twice_is_refused(bundle):
    with (bundle / "SHA256SUMS").open("a") as stream:
        stream.write(f"{DIGEST}  model.onnx\n")
    with pytest.raises(BundleError, match=r"line \d+: model.onnx is listed twice"):
        check_sums(bundle)


@pytest.mark.parametrize("change", [bytes.upper, lambda line: line + b"\r", lambda line: line.replace(b"  ", b" *")])
def test_sums_may_be_written_as_other_tools_write_them(bundle, change):
    lines = (bundle / "SHA256SUMS").read_bytes().splitlines()
    if change is bytes.upper:
        lines = [change(line[:64]) + line[64:] for line in lines]
    else:
        lines = [change(line) for line in lines]
    before = read_sums(bundle)
    (bundle / "SHA256SUMS").write_bytes(b"\n".join(lines) + b"\n")
    assert read_sums(bundle) == before
    assert set(check_sums(bundle)) == {*FILES, *SAMPLES} - {"SHA256SUMS"}


def test_symbolic_links_are_refused(bundle, photo, own_main, capsys, tmp_path):
    shutil.move(bundle / "labels.json", tmp_path / "elsewhere.json")
    (bundle / "labels.json").symlink_to(tmp_path / "elsewhere.json")
    for run in ways(bundle, photo, own_main).values():
        line = refusal(capsys, run, 2)
        assert "labels.json: expected a file, received a symbolic link; copy the bundle with `cp -rL`" in line
    (bundle / "labels.json").unlink()
    shutil.move(tmp_path / "elsewhere.json", bundle / "labels.json")
    shutil.move(bundle / "sample", tmp_path / "sample")
    (bundle / "sample").symlink_to(tmp_path / "sample")
    with pytest.raises(BundleError, match="symbolic link"):
        check_sums(bundle)


def test_files_that_the_sums_do_not_list_are_named(bundle, own_main, capsys):
    (bundle / "sample" / "x\x1b[2J.py").write_text("")
    (bundle / "numpy.py").write_text("")
    words = r"2 files are not listed in SHA256SUMS, so not checked: numpy.py, sample/x\x1b[2J.py"
    assert unlisted_files(bundle) == ["numpy.py", "sample/x\x1b[2J.py"]
    assert main(["verify", str(bundle)]) == 0
    assert words in " ".join(capsys.readouterr().out.split())
    assert own_main(["--verify"], bundle) == 0
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("name", ["predict.py", "verification.json", "MODEL_CARD.md", "sample/expected.json"])
def test_sums_that_leave_out_a_file_of_every_bundle_prove_nothing(bundle, photo, own_main, capsys, name, is_there):
    sums = (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)
    (bundle / "SHA256SUMS").write_text("".join(line for line in sums if name not in line))
    if is_there:
        with (bundle / name).open("a") as stream:
            stream.write("\n")
    else:
        (bundle / name).unlink()
    reason = "is not listed in SHA256SUMS, so it may have been changed" if is_there else "is missing from the bundle"
    for way, code in (("verify", 1), ("predict.py --verify", 2)):
        line = refusal(capsys, ways(bundle, photo, own_main)[way], code)
        assert f"{bundle / name} {reason}; copy the whole folder again" in line


def test_a_folder_in_place_of_the_sums_is_refused(bundle):
    (bundle / "SHA256SUMS").unlink()
    (bundle / "SHA256SUMS").mkdir()
    with pytest.raises(ChangedBundleError, match="is not a bundle"):
        check_sums(bundle)
