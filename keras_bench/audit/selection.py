"""Leaves images out of train and val that are held out too, and reads from a run's splits.csv how it was done there."""

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

# What splits.csv calls an image that was left out of a split.
LEFT_OUT = {"train": "leaked", "val": "val_in_test"}

# Why an image stays in the val of a run that began before such images were looked for.
EARLIER = "in val since an earlier version, which did not look for images that test holds too"

Reasons = Mapping[str, Mapping[str, str]]  # split -> image id -> why


@dataclass(frozen=True)
class Selection:
    """The splits that are used, and what was done about images that two of them share.

    Attributes:
        splits: without the images left out.
        left_out: of "train" and "val", why each image was left out, by id.
        kept: of "train" and "val", why an image stays although it is held out too, or nearly, by id.
    """

    splits: SplitTable
    left_out: Reasons = field(default_factory=dict)
    kept: Reasons = field(default_factory=dict)


def leave_out(index: ImageIndex, splits: SplitTable, audit: Audit, rule: str, log: Log) -> Selection:
    """Take images out of train that val or test hold too, and out of val those that test holds too.

    Args:
        index: the images.
        splits: as they were drawn.
        audit: what was found in them.
        rule: dataset.remove_leaked.
        log: the screen.

    Raises:
        UserError: a class has no image left in train or val.
    """
    positions = dict(splits.positions)
    left_out = {split: leaks.left_out(rule) for split, leaks in audit.leaks.items()}
    for split, gone in left_out.items():
        if gone:
            ids = np.array([index.ids[i] for i in positions[split]], dtype=np.str_)
            positions[split] = positions[split][~np.isin(ids, list(gone))]
            _refuse_empty(index, positions[split], split, audit.leaks[split].held_out)
            holds = "holds" if audit.leaks[split].held_out == "test" else "hold"
            log.line(
                f"left out of {split}: {len(gone)} images that {audit.leaks[split].held_out} {holds} too "
                f"(dataset.remove_leaked: {rule})"
            )
    kept = {split: leaks.kept(rule) for split, leaks in audit.leaks.items()}
    return Selection(replace(splits, positions=positions), left_out, kept)


def kept_in_val(dataset: Mapping[str, Any], splits: Path, audit: Audit | None) -> Mapping[str, str] | None:
    """Return why, for each image that is in a run's val although test holds it too, or nearly; None: not known.

    Args:
        dataset: dataset.json of the run; those of earlier versions do not say.
        splits: its splits.csv, which answers for them where the audit is of the same split.
        audit: of the run's data; None where there is none.
    """
    recorded: Mapping[str, str] | None = dataset.get("kept", {}).get("val")
    if recorded is not None or audit is None or not splits.is_file():
        return recorded
    rows = read_splits(splits)
    if _drawn_digest(rows["split"]) != audit.split:
        return None
    leaks, in_val = audit.leaks["val"], set(rows.loc[rows["split"] == "val", "id"])
    return dict.fromkeys((name for name in (*leaks.exact, *leaks.near) if name in in_val), EARLIER)


def shared_with_val(dataset: Mapping[str, Any], splits: Path, audit: Audit | None) -> int | None:
    """Return how many images are in val although test holds them too, or nearly; see `kept_in_val`."""
    kept = kept_in_val(dataset, splits, audit)
    return None if kept is None else len(kept)


def most_shared(counts: Iterable[int | None]) -> int | None:
    """Return the largest of the counts of several runs; None, not known, where one is not known."""
    known = list(counts)
    return max((count for count in known if count is not None), default=0) if None not in known else None


def _drawn_digest(places: pd.Series) -> str:
    """Return `SplitTable.digest` of the splits as they were drawn, from what splits.csv calls each image in turn."""
    drawn = places.replace({word: split for split, word in LEFT_OUT.items()})
    positions = {split: np.flatnonzero(drawn == split) for split in SPLITS}
    return SplitTable(positions, "").digest()


def _refuse_empty(index: ImageIndex, kept: np.ndarray, split: str, held_out: str) -> None:
    gone = sorted(set(range(len(index.class_names))) - set(index.labels[kept].tolist()))
    if not gone:
        return
    images = {"train": "training image", "val": "val image"}[split]
    of_class = "" if len(kept) == 0 else f" of class {index.class_names[gone[0]]!r}"
    raise UserError(
        f"{index.location}: every {images}{of_class} is a duplicate of one in {held_out}; take the duplicates out of "
        "the data, or use them nevertheless with --set dataset.remove_leaked=none"
    )


def splits_frame(index: ImageIndex, unreadable: Collection[int], selection: Selection) -> pd.DataFrame:
    """Return splits.csv, one row per image: its id, class and split, and a note where two splits share it.

    Args:
        index: all images.
        unreadable: positions of those that could not be decoded.
        selection: where each of the others went.
    """
    import pandas as pd

    splits = np.full(len(index.ids), "unused", dtype=object)
    splits[list(unreadable)] = "unreadable"
    notes: dict[str, str] = {}
    for split, word in LEFT_OUT.items():
        gone = selection.left_out.get(split, {})
        splits[[image_id in gone for image_id in index.ids]] = word
        notes |= {**gone, **selection.kept.get(split, {})}
    for split, where in selection.splits.positions.items():
        splits[where] = split
    classes = np.array(index.class_names, dtype=object)[index.labels]
    noted = [notes.get(image_id, "") for image_id in index.ids]
    return pd.DataFrame({"id": index.ids, "class": classes, "split": splits, "note": noted}, dtype=str)


def read_splits(path: Path) -> pd.DataFrame:
    """Return splits.csv, its columns text; files of earlier versions have no notes, which are then empty.

    Raises:
        UserError: the file is damaged.
    """
    rows = read_frame(path, str, required=["id", "class", "split"])
    return rows if "note" in rows else rows.assign(note="")


def recorded_selection(path: Path, index: ImageIndex, splits: SplitTable) -> Selection:
    """Return the splits that a run's splits.csv names, whatever would be drawn or left out today.

    Args:
        path: the file.
        index: the images of the run.
        splits: what the settings draw; says where test comes from.

    Raises:
        UserError: the file is damaged, or names an image that is not there.
    """
    rows = read_splits(path)
    known = {image_id: i for i, image_id in enumerate(index.ids)}
    absent = rows.loc[~rows["id"].isin(known), "id"]
    if len(absent):
        raise UserError(f"{path}: {absent.iloc[0]!r} is not among the images of {index.location}; the file was changed")
    positions = {
        split: np.array(sorted(known[image_id] for image_id in rows.loc[rows["split"] == split, "id"]), dtype=np.int64)
        for split in SPLITS
    }
    left_out = {split: _notes(rows[rows["split"] == word]) for split, word in LEFT_OUT.items()}
    kept = {split: _notes(rows[(rows["split"] == split) & (rows["note"] != "")]) for split in LEFT_OUT}
    return Selection(replace(splits, positions=positions), left_out, kept)


def _notes(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows["id"], rows["note"], strict=True))
