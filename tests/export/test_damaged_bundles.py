"""What `verify`, `predict` and a bundle's own `predict.py` say about damaged, malformed and hostile bundles."""

import json
import os
import runpy
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from keras_bench.bundle.onnx_file import require_one_file
from keras_bench.bundle.sums import BundleError, ChangedBundleError, check_sums, read_sums, unlisted_files
from keras_bench.cli.main import main
from keras_bench.config import DatasetConfig
from keras_bench.export.earlier import changed_in_bundle, place_to_keep, report_replaced
from keras_bench.export.files import write_sums
from keras_bench.files import replacing_folder
from tests.damage import DAMAGE
from tests.logs import WarningsLog
from tests.made_bundle import MATRIX, NAMES, expected, make_bundle, picture, tiny_model

KINDS = {**{kind: DAMAGE[kind] for kind in ("empty", "cut to half", "one byte in the middle")}, "missing": os.remove}
READ_BY_PREDICT = ("model.onnx", "labels.json", "SHA256SUMS")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle with every file that a real one can have, and outside it a photo."""
    root = tmp_path_factory.mktemp("bundles")
    folder = make_bundle(root / "whole")
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")
    probabilities = json.loads((folder / "sample" / "expected.json").read_text())
    write_json(folder / "sample" / "expected.json", {**probabilities, "model.int8.onnx": probabilities["model.onnx"]})
    write_json(
        folder / "verification.json",
        {
            "data": {"dataset": DatasetConfig(source="folder").model_dump(mode="json"), "fingerprint": "f" * 32}
            | {"test_images": 2},
            "agreement": {"images": 2, "onnx_top1": {"value": 1.0, "low": 0.3, "high": 1.0}},
        },
    )
    (folder / "MODEL_CARD.md").write_text("A card.\n")
    write_sums(folder)
    Image.fromarray(picture(5)).save(root / "photo.png")
    return folder


def write_json(path, content):
    path.write_text(json.dumps(content))


@pytest.fixture
def bundle(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "bundle")


@pytest.fixture(scope="module")
def own_main(whole):
    """The `main` of the bundle's predict.py."""
    return runpy.run_path(str(whole / "predict.py"))["main"]


@pytest.fixture
def photo(whole):
    return str(whole.parent / "photo.png")


def ways(bundle, photo, own_main):
    """Every way to use a bundle, by name."""
    return {
        "verify": lambda: main(["verify", str(bundle)]),
        "predict": lambda: main(["predict", str(bundle), photo]),
        "predict.py": lambda: own_main([photo], bundle),
        "predict --int8": lambda: main(["predict", str(bundle), photo, "--int8"]),
        "predict.py --int8": lambda: own_main([photo, "--int8"], bundle),
        "predict.py --verify": lambda: own_main(["--verify"], bundle),
    }


def refusal(capsys, way, code):
    """Run a way that must fail, and return its only line."""
    assert way() == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert "%" not in captured.out  # no prediction
    return line


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


def with_sums(bundle, name, content):
    """Replace a file as a forger would: the sums agree."""
    (bundle / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    write_sums(bundle)


LABELS = {
    "too few titles": ({"class_names": NAMES, "class_titles": NAMES[:2]}, "expected 3 class titles, received 2"),
    "numbers": ({"class_names": [1, 2, 3], "class_titles": NAMES}, "expected JSON with class_names"),
    "a text": ({"class_names": "abc", "class_titles": "abc"}, "expected JSON with class_names"),
    "a list": (NAMES, "expected JSON with class_names"),
    "nothing": ({}, "expected JSON with class_names"),
    "not UTF-8": (b'{"class_names": ["\xff"]}', "expected UTF-8 text"),
    "deep": (b"[" * 100_000, "expected JSON with class_names"),
}


@pytest.mark.parametrize(("content", "reason"), LABELS.values(), ids=LABELS)
def test_malformed_labels_are_refused(bundle, photo, own_main, capsys, content, reason):
    with_sums(bundle, "labels.json", content)
    for run in ways(bundle, photo, own_main).values():
        assert reason in refusal(capsys, run, 2)


def row(*values):
    return {"model.onnx": {"sample/1.png": list(values)}}


EXPECTED = {
    "too few": row(0.5, 0.5),
    "not a number": row(0.5, 0.5, float("nan")),
    "text": row("a", "b", "c"),
    "ragged": {"model.onnx": {"sample/1.png": [0.2, 0.3, 0.5], "sample/2.png": [1.0]}},
    "none": {"model.onnx": {}},
    "another model": {"other.onnx": {}},
    "a list": [1, 2],
    "an image outside": {"model.onnx": {"../photo.png": [0.2, 0.3, 0.5]}},
    "not an image": {"model.onnx": {"labels.json": [0.2, 0.3, 0.5]}},
}


@pytest.mark.parametrize("content", EXPECTED.values(), ids=EXPECTED)
def test_malformed_expectations_are_refused(bundle, photo, own_main, capsys, content):
    with_sums(bundle, "sample/expected.json", content)
    for way in ("verify", "predict.py --verify"):
        line = refusal(capsys, ways(bundle, photo, own_main)[way], 2)
        assert "expected.json: expected 3 probabilities" in line or "expected.json: a sample image cannot" in line


@pytest.mark.parametrize("content", [{}, {"data": 1}, [1], b"\xff", {"data": {"dataset": {"source": "moon"}}}])
def test_a_malformed_verification_is_refused(bundle, capsys, content):
    with_sums(bundle, "verification.json", content)
    line = refusal(capsys, lambda: main(["verify", str(bundle)]), 2)
    assert "verification.json cannot be read" in line
    assert line.endswith("use the version that wrote it, or ask for the bundle again")  # it is never rebuilt


def test_a_recorded_data_set_cannot_fetch_the_code_of_a_third_party(bundle, capsys, image_folder):
    dataset = DatasetConfig(source="tfds", tfds_name="huggingface:someone/dataset").model_dump(mode="json")
    with_sums(
        bundle,
        "verification.json",
        {
            "data": {"dataset": dataset, "fingerprint": "f", "test_images": 2},
            "agreement": {"images": 2, "onnx_top1": {"value": 1.0}},
        },
    )
    line = refusal(capsys, lambda: main(["verify", str(bundle), "--data", str(image_folder)]), 2)
    assert "expected a builder of tensorflow-datasets itself" in line


def external(location, nested=False):
    """The tiny model, whose matrix is in another file; nested: as a constant inside a branch of an If."""
    model = tiny_model(NAMES)
    matrix = next(tensor for tensor in model.graph.initializer if tensor.name == "matrix")
    matrix.ClearField("raw_data")
    matrix.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "36")):
        matrix.external_data.add(key=key, value=value)
    if nested:
        branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["matrix"], value=matrix)], "b", [], [])
        model.graph.node.insert(0, onnx.helper.make_node("If", ["yes"], ["matrix"], then_branch=branch))
        model.graph.initializer.remove(matrix)
    return model.SerializeToString()


def with_operator():
    model = tiny_model(NAMES)
    model.graph.node[0].domain = "somebody"
    model.opset_import.add(domain="somebody", version=1)
    return model.SerializeToString()


def without_classes():
    model = tiny_model(NAMES)
    model.metadata_props[0].value = "{not JSON"
    return model.SerializeToString()


def that_cannot_be_run():
    """The matrix fits no image, which shows only when the model is run."""
    model = tiny_model(NAMES)
    next(node for node in model.graph.node if node.op_type == "ReduceMean").input[1] = "other axes"
    model.graph.node.insert(0, onnx.helper.make_node("Shape", ["image"], ["other axes"], start=3))
    return model.SerializeToString()


def with_infinite_scores():
    model = tiny_model(NAMES)
    matrix = np.full_like(MATRIX, np.inf)
    next(tensor for tensor in model.graph.initializer if tensor.name == "matrix").CopyFrom(
        onnx.numpy_helper.from_array(matrix, "matrix")
    )
    return model.SerializeToString()


MODELS = {
    "outside": (lambda: external("../photo.png"), "reads tensors from other files"),
    "absolute": (lambda: external("/etc/passwd"), "reads tensors from other files"),
    "unlisted": (lambda: external("matrix.bin"), "reads tensors from other files"),
    "nested": (lambda: external("matrix.bin", nested=True), "reads tensors from other files"),
    "custom operator": (with_operator, "cannot load it"),
    "empty": (lambda: b"", "not an ONNX model, or a damaged one"),
    "text": (lambda: b"not a model at all", "not an ONNX model, or a damaged one"),
    "cut": (lambda: tiny_model(NAMES).SerializeToString()[:-20], "not an ONNX model, or a damaged one"),
    "zeros": (lambda: bytes(300), "cannot load it"),
    "classes that are not JSON": (without_classes, "class names are not the model's"),
    "cannot be run": (that_cannot_be_run, "the model cannot be run"),
    "infinite": (with_infinite_scores, "values that are not finite"),
}


@pytest.mark.parametrize(("make", "reason"), MODELS.values(), ids=MODELS)
def test_hostile_models_are_refused(bundle, photo, own_main, capsys, make, reason):
    (bundle / "matrix.bin").write_bytes(MATRIX.tobytes())
    with_sums(bundle, "model.onnx", make())
    for way in ("verify", "predict", "predict.py", "predict.py --verify"):
        assert reason in refusal(capsys, ways(bundle, photo, own_main)[way], 2), way


def test_mutated_models_end_in_a_bundle_error_or_load(bundle):
    """The reader of protobuf fields meets 300 damaged models; the same bytes never go to onnxruntime."""
    content = (bundle / "model.onnx").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        mutated = bytearray(content)
        for position in generator.integers(0, len(content), 3):
            mutated[position] = generator.integers(0, 256)
        (bundle / "model.onnx").write_bytes(mutated)
        try:
            require_one_file(bundle / "model.onnx")
        except BundleError:
            refused += 1
    assert 20 < refused < 300


IMPOSTOR = "from pathlib import Path\nPath({marker!r}).write_text('ran')\nraise SystemExit(0)\n"


def test_no_code_of_a_bundle_is_run(bundle, photo, tmp_path, capsys):
    """`verify` and `predict`, started inside a bundle whose every Python file would leave a marker."""
    marker = tmp_path / "marker"
    code = IMPOSTOR.format(marker=str(marker))
    names = ("predict.py", "numpy.py", "onnxruntime.py", "json.py", "sitecustomize.py", "keras_bench/__init__.py")
    for name in names:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(code)
    write_sums(bundle)
    program = "import sys; from keras_bench.cli.main import main; sys.exit(main())"
    for words in (["verify", "."], ["predict", ".", photo]):
        # -P as for the installed command, which does not look for modules in the current folder either.
        command = [sys.executable, "-P", "-c", program, *words]
        done = subprocess.run(command, cwd=bundle, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    assert not marker.exists()
    subprocess.run([sys.executable, str(bundle / "predict.py")], check=True)
    assert marker.exists()  # the trap works


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
