"""Reads experiments/published/<name>.yaml: the published figures that a study is held against."""

from typing import Any

from keras_bench.config.load import experiment_folders, read_yaml
from keras_bench.records.comparison import Published, Study


def load_study(experiment: str, dataset: dict[str, Any]) -> Study | None:
    """Return the published figures of an experiment, or None where there are none.

    They compare only where the data set and the number of classes are the published ones.

    Args:
        experiment: the experiment's name.
        dataset: dataset.json of its runs.
    """
    for folder in experiment_folders():
        path = folder / "published" / f"{experiment}.yaml"
        if path.is_file():
            tree = read_yaml(path)
            break
    else:
        return None
    match = tree["match"]
    ours = {"source": dataset["source"], "num_classes": len(dataset["class_names"])}
    return Study(
        source=tree["source"],
        hardware=tree.get("hardware", ""),
        data=tree["data"],
        comparable=all(ours[key] == value for key, value in match.items()),
        rows=[_row(row) for row in tree.get("rows", [])],
        notes=list(tree.get("notes", [])),
    )


def _row(row: dict[str, Any]) -> Published:
    figures = {name: float(value) for name, value in row.items() if name not in ("model", "phase")}
    return Published(row["model"], row["phase"], figures)
