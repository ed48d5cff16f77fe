"""Reads experiments/published/<name>.yaml: the published figures and claims that an experiment is compared with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_bench.config.load import experiment_folders
from keras_bench.config.yaml_text import read_yaml
from keras_bench.errors import UserError, unknown_name
from keras_bench.report.study import CLAIMED, FIGURES, Claim, Published, Study

_KEYS = ("source", "hardware", "data", "match", "not_comparable", "rows", "claims", "notes")


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
    _check_names(path, "key", tree, _KEYS)
    rows, claims = tree.get("rows", []), tree.get("claims", [])
    for row in rows:
        _check_names(path, "figure", row, ("model", "phase", *FIGURES))
    for claim in claims:
        _check_names(path, "key", claim, ("claim", "figure", "more", "less"))
        _check_names(path, "figure", [claim["figure"]], tuple(CLAIMED))
    difference = tree.get("not_comparable") or _difference(tree["match"], dataset)
    return Study(
        source=tree["source"],
        hardware=tree.get("hardware", ""),
        data=tree["data"],
        comparable=not difference,
        difference=difference,
        rows=[_published_row(row) for row in rows],
        claims=[Claim(claim["claim"], claim["figure"], claim["more"], claim["less"]) for claim in claims],
        notes=list(tree.get("notes", [])),
    )


def _difference(match: dict[str, Any], dataset: dict[str, Any]) -> str:
    """Return in words how our data set differs from the published one, or ""."""
    names = dataset["class_names"]
    ours = {"source": dataset["source"], "num_classes": len(names), "class_names": sorted(names)}
    for key, value in match.items():
        if ours[key] != (sorted(value) if key == "class_names" else value):
            return {"source": "another data set", "num_classes": "another number of classes"}.get(key, "other classes")
    return ""


def _published_row(row: dict[str, Any]) -> Published:
    figures = {name: float(value) for name, value in row.items() if name not in ("model", "phase")}
    return Published(row["model"], row["phase"], figures)


def _check_names(path: Path, kind: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{path}: {unknown_name(kind, name, known)}")
