"""What a finished command leaves, without times, so that two can be compared to the bit."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnxruntime
import pandas as pd

from keras_bench.runs.damage import FILES, changed_files

Facts = dict[str, object]

# Keys and columns that hold times, memory, latencies, digests of files that hold the time they were saved, addresses of
# objects, the sizes of ONNX files, in which the names of nodes carry numbers that differ between processes, or the
# commit, which changes while somebody works.
TIMES = re.compile(
    r"second|time|memory|_ms$|^ms|session|sha256|date_saved|^command$|^commit$|^trained$|shared_object_id|megabytes"
)
# Present in both, but full of times: pages and figures that show seconds, logs, sums of files with times.
ONLY_PRESENT = re.compile(
    r"(run\.log|index\.html|summary\.txt|MODEL_CARD\.md|\.svg|epoch_seconds\.png|accuracy_for_cost\.png|"
    r"SHA256SUMS)$"
)
TIMING = "timing.json"  # times alone; a command that was killed after training, and goes on, leaves none
LEFTOVERS = re.compile(r"(^|/)(\.writing-|\.before-|[^/]*\.part(\.|$|/)|state(/|$))")


def facts_of(folder: Path) -> dict[str, Facts]:
    """Return the facts of every file that a command left in `runs` and `exports`, by path within the folder."""
    roots = (folder / "runs", folder / "exports")
    paths = sorted(path for root in roots for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {
        str(path.relative_to(folder)): _facts_of(path, str(folder))
        for path in paths
        if path.name != TIMING and not LEFTOVERS.search(str(path.relative_to(folder)))
    }


def differences(expected: dict[str, Facts], received: dict[str, Facts]) -> list[str]:
    """Return a line for each difference between two commands' files; none if all is equal to the bit."""
    lines = [f"{name} is missing" for name in expected if name not in received]
    lines += [f"{name} is too many" for name in received if name not in expected]
    for name in expected.keys() & received.keys():
        theirs, ours = expected[name], received[name]
        keys = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
        if keys:
            first = keys[0]
            lines.append(
                f"{name}: {len(keys)} differ, {first}: {theirs.get(first)!r:.80} became {ours.get(first)!r:.80}"
            )
    return sorted(lines)


def leftovers(folder: Path) -> list[str]:
    """Return temporary files and folders and saved states that outlived the command, by path within the folder."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if LEFTOVERS.search(path.name))
    return [name for name in names if not LEFTOVERS.search(name.rpartition("/")[0])]


def predicted(folder: Path) -> dict[str, np.ndarray]:
    """Return the test probabilities of each phase in a folder."""
    return {
        path.parent.name: _arrays(path)["probabilities"] for path in folder.glob("runs/*/*/*/*/predictions-test.npz")
    }


def _facts_of(path: Path, folder: str) -> Facts:
    if ONLY_PRESENT.search(path.name):
        return {"is empty": path.stat().st_size == 0}
    read = READERS.get(path.suffix)
    return _digest(path.read_bytes()) if read is None else read(path, folder)


def _digest(content: bytes) -> Facts:
    return {"sha256": hashlib.sha256(content).hexdigest()}


def _array(values: np.ndarray) -> str:
    """Return an array as text that differs wherever the array does."""
    text = np.asarray(values)
    return f"{text.dtype} {text.shape} {hashlib.sha256(np.ascontiguousarray(text).tobytes()).hexdigest()}"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _npz(path: Path, folder: str) -> Facts:
    return {name: _array(values) for name, values in _arrays(path).items()}


def _h5(content: bytes) -> Facts:
    facts: Facts = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            facts[name] = _array(item[()])

    with h5py.File(io.BytesIO(content)) as stored:
        stored.visititems(visit)
    return facts


def _keras(path: Path, folder: str) -> Facts:
    facts: Facts = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            part = _h5(content) if name.endswith(".h5") else _flat(json.loads(content))
            facts |= {f"{name} {key}": value for key, value in part.items()}
    return facts


def _flat(tree: object, prefix: str = "") -> Facts:
    """Return the leaves of a JSON tree by dotted key, without times."""
    if isinstance(tree, dict):
        children = {key: value for key, value in tree.items() if not TIMES.search(str(key))}
        return {name: leaf for key, value in children.items() for name, leaf in _flat(value, f"{prefix}.{key}").items()}
    if isinstance(tree, list):
        return {name: leaf for i, value in enumerate(tree) for name, leaf in _flat(value, f"{prefix}.{i}").items()}
    return {prefix: tree}


def _json(path: Path, folder: str) -> Facts:
    """Return a record's values, and instead of the digests of its files, whether these are as it says."""
    parent = re.escape(str(Path(folder).parent))
    tree = json.loads(re.sub(parent + '/[^/"]+', "FOLDER", path.read_text(encoding="utf-8")))
    files = sorted(tree.pop(FILES, {}))
    changed = [str(file.relative_to(folder)) for file in changed_files(path)]
    # The origin of a bundle is the digest of its .keras file, which holds the time it was saved.
    facts = {key: value for key, value in _flat(tree).items() if not key.endswith("about.fingerprint")}
    return facts | ({"files": files, "files that are not as recorded": changed} if files else {})


def _csv(path: Path, folder: str) -> Facts:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return {name: frame[name].tolist() for name in frame if not TIMES.search(str(name))}


def _onnx(path: Path, folder: str) -> Facts:
    """Return what an exported model makes of some images; the names of its nodes differ between processes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    images = np.random.default_rng(0).integers(0, 256, (4, 40, 36, 3), dtype=np.uint8)
    return {"outputs": _array(session.run(None, {session.get_inputs()[0].name: images})[0])}


READERS: dict[str, Callable[[Path, str], Facts]] = {
    ".npz": _npz,
    ".h5": lambda path, folder: _h5(path.read_bytes()),
    ".keras": _keras,
    ".json": _json,
    ".csv": _csv,
    ".onnx": _onnx,
}
