"""The paths of files in run and experiment folders; training/resume.py names the files of a saved state."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.files import sweep
from keras_bench.locks import lock_file, lock_folder, refuse_if_locked, wait_for_lock
from keras_bench.phases import Phase
from keras_bench.printable import printable
from keras_bench.reading import read_json, read_record
from keras_bench.runs.results import PhaseResult, run_label

FIGURES = [f"{name}.{kind}" for name in ("learning_curves", "confusion_matrix") for kind in ("png", "svg")]
REPORT_FILES = ("MODEL_CARD.md", "classes.csv", *FIGURES)  # in a run's folder, under the lock of the comparison
NOT_UNDER_THE_RUNS_LOCK = (*REPORT_FILES, "latency.json")  # under locks of their own
VARIANT_LENGTH = 120  # folder names are limited to 255 bytes, on some encrypted file systems to 143


class RunDir:
    """`runs/<experiment>[@<variant>]/<model>/seed<k>/`.

    Args:
        root: that folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    model_name = property(lambda self: self.root.parent.name)
    seed = property(lambda self: int(self.root.name.removeprefix("seed")))
    label = property(lambda self: run_label(self.model_name, self.seed))

    config = property(lambda self: self.root / "config.yaml")
    environment = property(lambda self: self.root / "environment.json")
    dataset = property(lambda self: self.root / "dataset.json")
    splits = property(lambda self: self.root / "splits.csv")
    log = property(lambda self: self.root / "run.log")
    run = property(lambda self: self.root / "run.json")
    figures = property(lambda self: self.root / "figures")
    cost = property(lambda self: self.root / "cost.json")
    timing = property(lambda self: self.root / "timing.json")
    latency = property(lambda self: self.root / "latency.json")
    explanations = property(lambda self: self.root / "explain" / "explanations.npz")
    explanation_checks = property(lambda self: self.root / "explain" / "checks.json")
    shown_images = property(lambda self: self.root / "thumbnails" / "files.json")
    model_card = property(lambda self: self.root / "MODEL_CARD.md")

    def phase(self, phase: Phase) -> Path:
        """Return the folder of one phase."""
        return self.root / phase

    def history(self, phase: Phase) -> Path:
        """Return the CSV file with one row per epoch."""
        return self.phase(phase) / "history.csv"

    def best_weights(self, phase: Phase) -> Path:
        """Return the weights of the phase's best validation epoch."""
        return self.phase(phase) / "best.weights.h5"

    def tail_weights(self, phase: Phase) -> Path:
        """Return the weights of the layers after the frozen part, if these were trained on cached features."""
        return self.phase(phase) / "state" / "tail.weights.h5"

    def model(self, phase: Phase) -> Path:
        """Return the complete float32 model with the best weights."""
        return self.phase(phase) / "model.keras"

    def result(self, phase: Phase) -> Path:
        """Return the file whose existence means that the phase is finished."""
        return self.phase(phase) / "result.json"

    def predictions(self, phase: Phase, split: str) -> Path:
        """Return the file of per-image probabilities for one split."""
        return self.phase(phase) / f"predictions-{split}.npz"

    def state(self, phase: Phase) -> Path:
        """Return the folder from which an interrupted phase resumes."""
        return self.phase(phase) / "state"

    def states(self, phase: Phase) -> list[Path]:
        """Return the JSON files of the phase's saved states, earliest epoch first; empty if it left none behind."""
        return sorted(self.state(phase).glob("epoch*.json"))

    def tensorboard(self, phase: Phase) -> Path:
        """Return the folder of the phase's TensorBoard logs."""
        return self.phase(phase) / "tensorboard"

    def class_report(self, phase: Phase) -> Path:
        """Return the CSV file of precision, recall, F1 and support per class on test."""
        return self.phase(phase) / "classes.csv"

    def export(self, phase: Phase) -> Path:
        """Return the file that records the location and verification of the phase's ONNX bundle."""
        return self.phase(phase) / "export.json"

    def thumbnail(self, image_id: str) -> Path:
        """Return the small JPEG of one test image; ids are hashed, since they may contain any character."""
        return self.root / "thumbnails" / f"{hashlib.blake2b(image_id.encode(), digest_size=10).hexdigest()}.jpg"

    def read_result(self, phase: Phase) -> PhaseResult | None:
        """Return the finished phase's result, or None."""
        path = self.result(phase)
        return read_record(path, PhaseResult.from_json) if path.is_file() else None

    def read_results(self, phases: Iterable[Phase]) -> dict[Phase, PhaseResult]:
        """Return the results of those phases that are finished, in the same order."""
        results = {phase: self.read_result(phase) for phase in phases}
        return {phase: result for phase, result in results.items() if result is not None}

    def read_export(self, phase: Phase) -> dict[str, Any] | None:
        """Return export.json's content, or None if the phase was not exported."""
        path = self.export(phase)
        return read_json(path) if path.is_file() else None

    def read_run(self) -> dict[str, Any] | None:
        """Return run.json's content, or None while the run is not finished."""
        return read_json(self.run) if self.run.is_file() else None

    def chosen_by(self) -> DecisionMetric:
        """Return the metric on val that chose a finished run's final phase; top-1 if the run does not record it."""
        default = f"val {DecisionMetric.TOP1}"
        return read_record(self.run, lambda run: DecisionMetric(run.get("chosen_by", default).removeprefix("val ")))

    def rate_search(self, phase: Phase) -> "RateSearchDir":
        """Return the folder of a search for the phase's learning rate: beside the run, since it is not part of it."""
        return RateSearchDir(self.root.parent / "lr-find" / f"{phase}-{self.root.name}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run folder for this process.

        Raises:
            UserError: another process holds the lock.
        """
        remedy = "wait for it or choose another --out"
        with refuse_if_locked(self.root / ".lock", f"{self.root} is in use by another process; {remedy}"):
            sweep(self.root, lambda name: name not in NOT_UNDER_THE_RUNS_LOCK, recursive=True)
            yield

    def lock_latency(self, log: Log) -> AbstractContextManager[None]:
        """Lock latency.json, which a suite writes too, without the run's lock."""
        return lock_file(self.latency, f"writing {self.latency}", log)

    def remove_state(self, phase: Phase) -> None:
        """Remove the state of a finished phase."""
        shutil.rmtree(self.state(phase), ignore_errors=True)


class RateSearchDir:
    """`runs/<experiment>[@<variant>]/<model>/lr-find/<phase>-seed<k>/`, written by `keras-bench lr-find`.

    Args:
        root: that folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    points = property(lambda self: self.root / "points.csv")
    curve = property(lambda self: self.root / "curve")  # .png and .svg
    search = property(lambda self: self.root / "search.json")

    def lock(self, log: Log) -> AbstractContextManager[None]:
        """Lock all files of a search, which are written together, waiting for a process that is writing them."""
        return lock_folder(self.root, self.root.with_name(f".{self.root.name}.lock"), f"writing {self.root}", log)


def run_folder(out: Path, experiment: str, model: str, seed: int, variant: str | None = None) -> RunDir:
    """Return the run folder of a model.

    Args:
        out: the folder of all runs, usually "runs".
        experiment: the experiment's name.
        model: the backbone's name.
        seed: the run's seed.
        variant: distinguishes runs with changed settings.
    """
    return RunDir(experiment_folder(out, experiment, variant).root / model / f"seed{seed}")


class ExperimentDir:
    """The files beside an experiment's runs, in `runs/<experiment>[@<variant>]/`.

    Args:
        root: that folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    results = property(lambda self: self.root / "results.csv")
    summary = property(lambda self: self.root / "summary.txt")
    page = property(lambda self: self.root / "index.html")
    comparison = property(lambda self: self.root / "comparison.json")
    audit = property(lambda self: self.root / "audit.json")
    explained = property(lambda self: self.root / "explained.json")
    figures = property(lambda self: self.root / "figures")

    def last_lines(self) -> list[str]:
        """Return the last lines of summary.txt, which say where the page and the table are."""
        return [printable(f"report:  {self.page}"), printable(f"table:   {self.results}")]

    def lock_audit(self, log: Log) -> AbstractContextManager[None]:
        """Lock audit.json, waiting for a process that is writing it; once held, check whether it now exists."""
        return lock_file(self.audit, f"auditing the images of {self.root}", log)

    def lock_explained(self, log: Log) -> AbstractContextManager[None]:
        """Lock explained.json, waiting for a process that is choosing the images; its choice applies to all runs."""
        return lock_file(self.explained, f"choosing the images to explain in {self.root}", log)

    @contextmanager
    def lock_comparison(self, log: Log) -> Iterator[None]:
        """Lock all files of a comparison, which are written together, waiting for a process that is writing them."""
        with wait_for_lock(self.root / ".comparison.lock", f"comparing the runs in {self.root}", log):
            sweep(self.root, lambda name: name not in (self.audit.name, self.explained.name))
            sweep(self.figures, lambda name: True)
            for run in runs_of(self.root):
                sweep(run.root, REPORT_FILES.__contains__, recursive=True)
            yield


def experiment_folder(out: Path, experiment: str, variant: str | None = None) -> ExperimentDir:
    """Return `runs/<experiment>[@<variant>]`, which holds the runs of an experiment and their comparison."""
    return ExperimentDir(out / (experiment + (f"@{variant}" if variant else "")))


def variant_name(settings: Mapping[str, object]) -> str:
    """Return the variant of a sweep point: its sorted `key=value` list, made safe for a folder's name.

    If characters had to be replaced or cut off, a digest of the complete list is appended.

    Args:
        settings: JSON values by dotted key.
    """
    text = ",".join(f"{key}={_variant_value(value)}" for key, value in sorted(settings.items()))
    safe = re.sub(r"[^A-Za-z0-9._=,+\[\]-]", "_", text)
    if safe == text and len(text) <= VARIANT_LENGTH:
        return text or "default"
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=5).hexdigest()
    return f"{safe[: VARIANT_LENGTH - len(digest) - 1]}-{digest}"


def _variant_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_variant_value, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def runs_of(root: Path) -> list[RunDir]:
    """Return every run in an experiment's folder, finished or not, sorted by model and seed."""
    roots = {path.parent for name in ("config.yaml", "run.json") for path in root.glob(f"*/seed*/{name}")}
    runs = [RunDir(root) for root in roots]
    return sorted(runs, key=lambda run: (run.model_name, run.seed))


def parse_run_reference(reference: str, out: Path) -> RunDir:
    """Return the run folder that `run:<experiment>[@<variant>]/<model>/seed<k>` names.

    Raises:
        UserError: the text does not have this form.
    """
    parts = reference.removeprefix("run:").split("/")
    if len(parts) != 3 or not parts[2].removeprefix("seed").isdigit() or ".." in parts:
        raise UserError(f"weights: expected run:<experiment>/<model>/seed<k>, received {reference!r}")
    return run_folder(out, parts[0], parts[1], int(parts[2].removeprefix("seed")))
