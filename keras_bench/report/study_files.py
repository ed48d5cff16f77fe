"""Reads experiments/published/<name>.yaml: the published figures and claims that an experiment is compared with."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_bench.config.load import experiment_folders
from keras_bench.config.yaml_text import read_yaml
from keras_bench.errors import UserError, unknown_name
from keras_bench.phases import as_phase
from keras_bench.reading import record_of
from keras_bench.report.study import CLAIMED, FIGURES, Claim, Published, Study


@dataclass(frozen=True)
class _StatedClaim:
    claim: str
    figure: str
    more: str
    less: str


@dataclass(frozen=True)
class _StatedStudy:
    """The keys of a file. `match` or `not_comparable` must be there; a row has a model, a phase and figures."""

    source: str
    data: str
    hardware: str = ""
    match: dict[str, str | int | list[str]] | None = None
    not_comparable: str = ""
    rows: list[dict[str, str | float]] = field(default_factory=list)
    claims: list[_StatedClaim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_study(experiment: str, dataset: dict[str, Any]) -> Study | None:
    """Return the published study that an experiment reproduces, or None where there is none.

    Figures are comparable only on the published data set and class list: everything under `match` must be the same in
    `dataset`. A file with a reason under `not_comparable` instead is never comparable.

    Args:
        experiment: the experiment's name.
        dataset: dataset.json of its runs.

    Raises:
        UserError: the file has an unknown key or figure.
    """
    for folder in experiment_folders():
        path = folder / "published" / f"{experiment}.yaml"
        if path.is_file():
            return read_study(path, dataset)
    return None


def read_study(path: Path, dataset: dict[str, Any]) -> Study:
    """Read one file; see `load_study`."""
    tree = read_yaml(path)
    _check_names(path, "key", tree, tuple(_StatedStudy.__dataclass_fields__))
    claims = tree.get("claims")
    for entry in claims if isinstance(claims, list) else []:
        _check_names(path, "key", entry if isinstance(entry, dict) else (), tuple(_StatedClaim.__dataclass_fields__))
    try:
        stated = record_of(_StatedStudy, tree)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if not stated.not_comparable and stated.match is None:
        raise UserError(f"{path}: expected match or not_comparable, which say whether figures are comparable")
    for claim in stated.claims:
        _check_names(path, "figure", [claim.figure], tuple(CLAIMED))
    difference = stated.not_comparable or _difference(path, stated.match or {}, dataset)
    return Study(
        source=stated.source,
        hardware=stated.hardware,
        data=stated.data,
        comparable=not difference,
        difference=difference,
        rows=[_published_row(path, row) for row in stated.rows],
        claims=[Claim(claim.claim, claim.figure, claim.more, claim.less) for claim in stated.claims],
        notes=stated.notes,
    )


def _difference(path: Path, match: dict[str, str | int | list[str]], dataset: dict[str, Any]) -> str:
    """Return in words how our data set differs from the published one, or ""."""
    names = dataset["class_names"]
    ours = {"source": dataset["source"], "num_classes": len(names), "class_names": sorted(names)}
    _check_names(path, "property of a data set", match, tuple(ours))
    for key, value in match.items():
        if ours[key] != (sorted(value) if isinstance(value, list) else value):
            return {"source": "another data set", "num_classes": "another number of classes"}.get(key, "other classes")
    return ""


def _published_row(path: Path, row: dict[str, str | float]) -> Published:
    _check_names(path, "figure", row, ("model", "phase", *FIGURES))
    try:
        figures = {name: float(value) for name, value in row.items() if name not in ("model", "phase")}
        return Published(str(row["model"]), as_phase(row["phase"]), figures)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: rows: expected model, phase and numbers, received {row}") from error


def _check_names(path: Path, kind: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{path}: {unknown_name(kind, name, known)}")
