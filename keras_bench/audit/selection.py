"""Leaves out train and val images that a held-out split shares, and reads from splits.csv which a run left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bench.audit.findings import Audit
from keras_bench.console import Log
from keras_bench.data.index import SPLITS, ImageIndex, SplitTable
from keras_bench.errors import UserError
from keras_bench.frames import read_frame

if TYPE_CHECKING:
    import pandas as pd

# What splits.csv calls an image that was left out, by the split it was left out of.
LEFT_OUT = {"train": "leaked", "val": "val_in_test"}

# Why an image stays in the val of a run that an earlier version began.
KEPT_BY_EARLIER_VERSION = "kept in val by an earlier version, which did not compare val with test"

Reasons = Mapping[str, Mapping[str, str]]  # split -> image id -> reason


@dataclass(frozen=True)
class Selection:
    """The splits in use, and which of the images that two splits share were left out or kept.

    Attributes:
        splits: the splits without the images left out.
        left_out: for "train" and "val", the reason why each image was left out, by id.
        kept: for "train" and "val", the reason why each duplicate or near-duplicate of a held-out image stays, by id.
    """

    splits: SplitTable
    left_out: Reasons = field(default_factory=dict)
    kept: Reasons = field(default_factory=dict)


def leave_out(index: ImageIndex, splits: SplitTable, audit: Audit, rule: str, log: Log) -> Selection:
    """Leave out the train images that are also in val or test, and the val images that are also in test.

    Args:
        index: the images.
        splits: the splits as drawn.
        audit: the audit of these splits.
        rule: the value of dataset.remove_leaked.
        log: the screen.

    Raises:
        UserError: a class has no image left in train or val.
    """
    positions = dict(splits.positions)
    left_out = {split: leaks.left_out(rule) for split, leaks in audit.leaks.items()}
    for split, reasons in left_out.items():
        if reasons:
            ids = np.array([index.ids[i] for i in positions[split]], dtype=np.str_)
            positions[split] = positions[split][~np.isin(ids, list(reasons))]
            _refuse_empty_classes(index, positions[split], split, audit.leaks[split].held_out)
            log.line(
                f"left out of {split}: {len(reasons)} images that are also in {audit.leaks[split].held_out} "
                f"(dataset.remove_leaked: {rule})"
            )
    kept = {split: leaks.kept(rule) for split, leaks in audit.leaks.items()}
    return Selection(replace(splits, positions=positions), left_out, kept)


def kept_in_val(dataset: Mapping[str, Any], splits: Path, audit: Audit | None) -> Mapping[str, str] | None:
    """Return the reason why each duplicate or near-duplicate of a test image stays in a run's val, by id.

    Args:
        dataset: the run's dataset.json; earlier versions did not record the reasons.
        splits: the run's splits.csv, which stands in for missing reasons if the audit is of the same splits.
        audit: the audit of the run's data; None if there is none.

    Returns:
        the reasons; None if it is unknown which images stay.
    """
    recorded: Mapping[str, str] | None = dataset.get("kept", {}).get("val")
    if recorded is not None or audit is None or not splits.is_file():
        return recorded
    rows = read_splits(splits)
    if _drawn_digest(rows["split"]) != audit.split:
        return None
    leaks, in_val = audit.leaks["val"], set(rows.loc[rows["split"] == "val", "id"])
    return dict.fromkeys((name for name in (*leaks.exact, *leaks.near) if name in in_val), KEPT_BY_EARLIER_VERSION)


def shared_with_val(dataset: Mapping[str, Any], splits: Path, audit: Audit | None) -> int | None:
    """Return how many duplicates or near-duplicates of test images stay in val; None if unknown."""
    kept = kept_in_val(dataset, splits, audit)
    return None if kept is None else len(kept)


def most_shared(counts: Iterable[int | None]) -> int | None:
    """Return the largest of several runs' counts; None if any of them is unknown."""
    listed = list(counts)
    return max((count for count in listed if count is not None), default=0) if None not in listed else None


def _drawn_digest(split_column: pd.Series) -> str:
    """Return `SplitTable.digest` of the splits as drawn, with the images left out later, from splits.csv's column."""
    drawn = split_column.replace({label: split for split, label in LEFT_OUT.items()})
    positions = {split: np.flatnonzero(drawn == split) for split in SPLITS}
    return SplitTable(positions, "").digest()


def _refuse_empty_classes(index: ImageIndex, kept: np.ndarray, split: str, held_out: str) -> None:
    empty_classes = sorted(set(range(len(index.class_names))) - set(index.labels[kept].tolist()))
    if not empty_classes:
        return
    image = {"train": "training image", "val": "val image"}[split]
    of_class = "" if len(kept) == 0 else f" of class {index.class_names[empty_classes[0]]!r}"
    raise UserError(
        f"{index.location}: every {image}{of_class} is a duplicate of one in {held_out}; remove the duplicates from "
        "the data, or keep them with --set dataset.remove_leaked=none"
    )


def splits_frame(index: ImageIndex, unreadable: Collection[int], selection: Selection) -> pd.DataFrame:
    """Return the table of splits.csv, one row per image: its id, class and split, and a note if two splits share it.

    Args:
        index: all images.
        unreadable: positions of the images that could not be decoded.
        selection: the splits of the other images.
    """
    import pandas as pd

    split_column = np.full(len(index.ids), "unused", dtype=object)
    split_column[list(unreadable)] = "unreadable"
    notes: dict[str, str] = {}
    for split, label in LEFT_OUT.items():
        left_out = selection.left_out.get(split, {})
        split_column[[image_id in left_out for image_id in index.ids]] = label
        notes |= {**left_out, **selection.kept.get(split, {})}
    for split, positions in selection.splits.positions.items():
        split_column[positions] = split
    classes = np.array(index.class_names, dtype=object)[index.labels]
    note_column = [notes.get(image_id, "") for image_id in index.ids]
    return pd.DataFrame({"id": index.ids, "class": classes, "split": split_column, "note": note_column}, dtype=str)


def read_splits(path: Path) -> pd.DataFrame:
    """Return splits.csv, every column as text; in files of earlier versions, which have no notes, these are empty.

    Raises:
        UserError: the file is damaged.
    """
    rows = read_frame(path, str, required=["id", "class", "split"])
    return rows if "note" in rows else rows.assign(note="")


def recorded_selection(path: Path, index: ImageIndex, splits: SplitTable) -> Selection:
    """Return the selection that a run's splits.csv records, whatever would be drawn or left out today.

    Args:
        path: the run's splits.csv.
        index: the images of the run.
        splits: the splits that the settings draw, which state the origin of test.

    Raises:
        UserError: the file is damaged, or names an image that the index lacks.
    """
    rows = read_splits(path)
    position_of = {image_id: i for i, image_id in enumerate(index.ids)}
    unknown_ids = rows.loc[~rows["id"].isin(position_of), "id"]
    if len(unknown_ids):
        raise UserError(
            f"{path}: {unknown_ids.iloc[0]!r} is not among the images of {index.location}; the file was changed"
        )
    positions = {
        split: np.array(
            sorted(position_of[image_id] for image_id in rows.loc[rows["split"] == split, "id"]), dtype=np.int64
        )
        for split in SPLITS
    }
    left_out = {split: _note_by_id(rows[rows["split"] == label]) for split, label in LEFT_OUT.items()}
    kept = {split: _note_by_id(rows[(rows["split"] == split) & (rows["note"] != "")]) for split in LEFT_OUT}
    return Selection(replace(splits, positions=positions), left_out, kept)


def _note_by_id(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows["id"], rows["note"], strict=True))
