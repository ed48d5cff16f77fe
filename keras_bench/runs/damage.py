"""Which files of a run are damaged or missing, and what to do where they cannot be made again. No TensorFlow.

JSON files hold the digest of their own content (`write_record`). Those written last in a folder also hold the digests
of the files beside them, under `files`. Folders of earlier versions have no digests: their files count as damaged only
if they cannot be read.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.audit.selection import read_splits
from keras_bench.config.load import read_yaml
from keras_bench.download import digest_file
from keras_bench.errors import LostResultError, UserError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.frames import frame_csv
from keras_bench.phases import PHASES, Phase
from keras_bench.reading import has_other_content, is_intact, read_intact, read_json
from keras_bench.runs.folders import RunDir
from keras_bench.runs.model_files import open_weights, test_zip
from keras_bench.runs.results import PhaseResult

if TYPE_CHECKING:
    import pandas as pd

FILES = "files"  # the key of the digests in a record: sha256 by path, relative to the record's folder
SPLITS = ("val", "test")
FOLDER_OPTIONS = ("--out=", "--exports=")


def digests_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 digests of files by their paths relative to a folder, for the key `FILES` of a record."""
    return {Path(os.path.relpath(path, folder)).as_posix(): digest_file(path) for path in files}


def recorded_digests(record: Path) -> dict[str, str]:
    """Return the digests that a record holds; empty if it is missing, damaged or of an earlier version."""
    return read_intact(record, lambda content: dict(content.get(FILES, {}))) or {}


def changed_files(record: Path) -> list[Path]:
    """Return the files whose digests a record holds and which are missing or not as they were written."""
    digests = {_below(record.parent, name): digest for name, digest in recorded_digests(record).items()}
    return [path for path, digest in digests.items() if not _is(path, digest)]


def _below(folder: Path, name: str) -> Path:
    """Return a path relative to a folder, e.g. "../figures/a.png", without the detour."""
    for part in Path(name).parts:
        folder = folder.parent if part == ".." else folder / part
    return folder


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and (digest_file(path) == digest or _is_with_other_line_ends(path, digest))


def _is_with_other_line_ends(path: Path, digest: str) -> bool:
    """Return whether a table differs from its digest in the ends of its lines only, as after a transfer as text."""
    if path.suffix != ".csv":
        return False
    content = path.read_bytes().replace(b"\r\n", b"\n")
    return digest in (hashlib.sha256(content.replace(b"\n", ends)).hexdigest() for ends in (b"\n", b"\r\n"))


def describe(path: Path) -> str:
    """Return "PATH is damaged", "PATH is missing" or, of an edited config.yaml or JSON file, "PATH was changed …"."""
    if is_edited(path):
        return f"{path} was changed since it was written"
    return f"{path} is {'damaged' if path.exists() else 'missing'}"


def is_edited(path: Path) -> bool:
    """Return whether a file that counts as damaged is a config.yaml or JSON that can still be read: it was changed."""
    try:
        return has_other_content(path) if path.suffix == ".json" else path.suffix == ".yaml" and bool(read_yaml(path))
    except UserError:
        return False


def phase_files(run: RunDir, phase: Phase) -> list[Path]:
    """Return the files of a finished phase whose digests result.json records."""
    predictions = [run.predictions(phase, split) for split in SPLITS]
    return [run.history(phase), run.best_weights(phase), run.model(phase), *predictions]


def damaged_files(run: RunDir, phases: Sequence[Phase] = PHASES, with_models: bool = True) -> list[Path]:
    """Return the files that training wrote and that are damaged or missing, except history.csv: results do not need it.

    Args:
        run: the run's folder.
        phases: the phases to check; those that are not finished have no such files.
        with_models: also check models and weights, which takes about a second for 2 GB.
    """
    damaged = _damaged_descriptions(run)
    if is_unreadable(run.run) or (not run.run.is_file() and run.cost.is_file()):  # cost.json follows run.json
        damaged.append(run.run)
    for phase in phases:
        damaged += _damaged_of_phase(run, phase, with_models)
    return damaged


def is_unreadable(path: Path) -> bool:
    """Return whether a JSON file exists but cannot be read or has changed since it was written."""
    return path.exists() and not is_intact(path, read_json)


def splits_damaged(run: RunDir) -> bool:
    """Return whether splits.csv is missing or not as it was written; earlier versions may have written none."""
    return is_damaged(run.splits, recorded_digests(run.dataset), read_splits)


def lost_results(run: RunDir, phases: Sequence[Phase]) -> list[Path]:
    """Return the result.json of each phase that was finished and whose result.json is damaged or missing.

    A missing one is lost if predictions are there but no state folder, which exists from a phase's start until its
    result.json is written, and if something else was made from the phase: earlier versions kept no such folder before
    the first saved state.
    """
    lost = []
    for phase in phases:
        result = run.result(phase)
        is_missing = has_only_predictions(run, phase) and _was_finished(run, phase)
        if is_missing or (result.exists() and read_intact(result, PhaseResult.from_json) is None):
            lost.append(result)
    return lost


def has_only_predictions(run: RunDir, phase: Phase) -> bool:
    """Return whether a phase has predictions, but neither a result.json nor a saved state."""
    has_predictions = run.predictions(phase, "test").exists()
    return has_predictions and not run.result(phase).exists() and not run.state(phase).is_dir()


def recorded_phases(run: RunDir, unrecorded: Sequence[Phase] = ()) -> list[Phase]:
    """Return the phases among which run.json chose; empty if it is missing or damaged.

    Args:
        run: the run's folder.
        unrecorded: what to return for an earlier version's run.json, which does not say.
    """
    return read_intact(run.run, lambda content: list(content.get("phases", unrecorded))) or []


def _was_finished(run: RunDir, phase: Phase) -> bool:
    """Return whether something was made from a phase, which happens only once it is finished."""
    is_continued = phase == "tl" and run.phase("ft").is_dir()
    return is_continued or run.export(phase).is_file() or phase in recorded_phases(run)


def to_train_again(run: RunDir, phases: Sequence[Phase]) -> tuple[str, str]:
    """Return the folders to remove and the phases to train where those of some phases are lost, each as a list."""
    again = list(phases)
    if "tl" in phases and "ft" not in phases and run.phase("ft").is_dir():
        again.append("ft")  # it started from the weights of tl
    return " and ".join(str(run.phase(phase)) for phase in again), " and ".join(again)


def refuse_lost(run: RunDir, damaged: Sequence[Path]) -> None:
    """Raise an error if some of the damaged files cannot be made again.

    Raises:
        LostResultError: names them, and says how to train their phases again.
    """
    if lost := _only_by_training(run, damaged):
        raise LostResultError(f"{'; '.join(map(describe, lost))}: this {_train_again(run, lost)}")


def remedy(run: RunDir, damaged: Sequence[Path]) -> str:
    """Return a sentence that says how to get damaged files of a run back; it follows a description of each of them."""
    if lost := _only_by_training(run, damaged):
        return f"{'this' if len(lost) == len(damaged) else ' and '.join(map(str, lost))} {_train_again(run, lost)}"
    names = [phase for phase in PHASES if run.result(phase) in damaged]  # not lost, so removed
    made = f"trains {' and '.join(names)} again" if names else "makes it again"
    command = read_intact(run.environment, lambda content: list(map(str, content["command"]))) or []
    if command[:1] != ["run"]:  # a suite starts `python -m keras_bench.run`, without the verb
        command = ["run", *command] if command[:1] == ["--model"] else []
    words = shlex.join(_in_folder([word for word in command if word != "--in-suite"], run.root.parents[2]))
    return f"the command that made the run {made}{f': keras-bench {words}' if words else ''}"


def _in_folder(words: Sequence[str], out: Path) -> list[str]:
    """Return the words of a recorded command with the folder where the run is now, if it was copied or moved.

    An exports folder below the recorded one moves with it.
    """
    split = [part for word in words for part in (word.split("=", 1) if word.startswith(FOLDER_OPTIONS) else [word])]
    values = {name: split[split.index(name) + 1] for name in ("--out", "--exports") if name in split[:-1]}
    before = Path(values.get("--out", "runs"))
    if not split or os.path.abspath(before) == os.path.abspath(out):
        return list(words)
    now = {"--out": str(out)}
    exports = Path(values.get("--exports", "."))
    if exports.is_relative_to(before):
        now["--exports"] = str(out / exports.relative_to(before))
    moved = [now.get(name, word) for name, word in zip(["", *split], split, strict=False)]
    return moved if "--out" in values else [*moved, "--out", str(out)]


def _only_by_training(run: RunDir, damaged: Sequence[Path]) -> list[Path]:
    """Return the damaged files that only training can make again."""
    phases = [phase for phase in PHASES if any(run.phase(phase) in path.parents for path in damaged)]
    return [path for phase in phases for path in _lost_of_phase(run, phase, damaged)]


def _train_again(run: RunDir, lost: Sequence[Path]) -> str:
    phases = [phase for phase in PHASES if any(run.phase(phase) in path.parents for path in lost)]
    folders, again = to_train_again(run, phases)
    return f"cannot be made again without training. Restore it from a copy, or remove {folders} to train {again} again"


def _lost_of_phase(run: RunDir, phase: Phase, damaged: Sequence[Path]) -> list[Path]:
    """Return the damaged files of a phase that only training can make again."""
    weights = [run.model(phase), run.best_weights(phase)]  # either is made from the other
    no_weights = all(path in damaged or not path.is_file() for path in weights)
    lost = [path for path in lost_results(run, [phase]) if path in damaged]
    return [*lost, *(weights if no_weights and any(path in damaged for path in weights) else [])]


def refuse_other_splits(run: RunDir, splits: "pd.DataFrame") -> None:
    """Refuse splits drawn again, where a begun run's splits.csv is damaged or missing, that are not the run's.

    Args:
        run: the run's folder.
        splits: the table for a new splits.csv.

    Raises:
        LostResultError: it differs from the digest in dataset.json, or from the images that the phases predicted.
    """
    digest = recorded_digests(run.dataset).get(run.splits.name)
    if digest is not None:
        is_same = hashlib.sha256(frame_csv(splits).encode()).hexdigest() == digest
    else:
        ids = {split: splits.loc[splits["split"] == split, "id"].tolist() for split in SPLITS}
        files = [(split, run.predictions(phase, split)) for phase in PHASES for split in SPLITS]
        saved = [(split, Predictions.from_npz(path)) for split, path in files if is_intact(path, Predictions.from_npz)]
        is_same = all(predictions.ids.tolist() == ids[split] for split, predictions in saved)
    if not is_same:
        raise LostResultError(
            f"{describe(run.splits)}, and the settings draw other splits today than the run began with: restore it "
            f"from a copy, or remove {run.root} to start over"
        )


def _damaged_descriptions(run: RunDir) -> list[Path]:
    """Return which of the files that describe the run and its data are damaged or missing."""
    records = [path for path in (run.environment, run.dataset) if not path.exists() or is_unreadable(path)]
    config = [run.config] if is_damaged(run.config, recorded_digests(run.environment), read_yaml, True) else []
    return [*records, *config, *([run.splits] if splits_damaged(run) else [])]


def _damaged_of_phase(run: RunDir, phase: Phase, with_models: bool) -> list[Path]:
    if lost := lost_results(run, [phase]):
        return lost
    if not run.result(phase).is_file():
        return [run.result(phase)] if phase in recorded_phases(run) else []  # someone removed the phase
    digests = recorded_digests(run.result(phase))
    checks: dict[Path, Callable[[Path], object]] = {
        run.predictions(phase, split): Predictions.from_npz for split in SPLITS
    }
    if with_models:
        checks |= {run.best_weights(phase): open_weights, run.model(phase): test_zip}
    optional = {run.best_weights(phase), *([] if run.best_weights(phase).is_file() else [run.model(phase)])}
    return [path for path, read in checks.items() if is_damaged(path, digests, read, path not in optional)]


def is_damaged(
    path: Path, digests: Mapping[str, str], read: Callable[[Path], object], always_written: bool = False
) -> bool:
    """Return whether a file is missing or damaged.

    Args:
        path: the file.
        digests: recorded digests by the file's name; without one, the file only has to be readable.
        read: reads a file without a digest; raises UserError if it is damaged.
        always_written: whether every version wrote the file; otherwise a missing one without a digest is not damage.
    """
    if not path.is_file():
        return always_written or path.name in digests
    if path.name in digests:
        return not _is(path, digests[path.name])
    try:
        read(path)
    except UserError:
        return True
    return False
