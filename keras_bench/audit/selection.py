"""Leaves images out of train and val that are held out too, and reads from a run's splits.csv how it was done there."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.audit.findings import Audit
from keras_bench.console import Log
from keras_bench.data.index import SPLITS, ImageIndex, SplitTable
from keras_bench.errors import UserError

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
    with splits.open(encoding="utf-8", newline="") as stream:
        places = {row["id"]: row["split"] for row in csv.DictReader(stream)}
    if _drawn_digest(list(places.values())) != audit.split:
        return None
    leaks = audit.leaks["val"]
    return dict.fromkeys((name for name in (*leaks.exact, *leaks.near) if places[name] == "val"), EARLIER)


def shared_with_val(dataset: Mapping[str, Any], splits: Path, audit: Audit | None) -> int | None:
    """Return how many images are in val although test holds them too, or nearly; see `kept_in_val`."""
    kept = kept_in_val(dataset, splits, audit)
    return None if kept is None else len(kept)


def most_shared(counts: Iterable[int | None]) -> int | None:
    """Return the largest of the counts of several runs; None, not known, where one is not known."""
    known = list(counts)
    return max((count for count in known if count is not None), default=0) if None not in known else None


def _drawn_digest(places: list[str]) -> str:
    """Return `SplitTable.digest` of the splits as they were drawn, from what splits.csv calls each image in turn."""
    drawn = [next((split for split, word in LEFT_OUT.items() if word == place), place) for place in places]
    positions = {split: np.flatnonzero([place == split for place in drawn]) for split in SPLITS}
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


def split_rows(index: ImageIndex, unreadable: Mapping[int, str], selection: Selection) -> list[list[str]]:
    """Return the rows of splits.csv, its head first: where each image went, and a note where two splits share it."""
    place = {int(i): split for split, where in selection.splits.positions.items() for i in where}
    notes: dict[str, str] = {}
    words: dict[str, str] = {}
    for split, word in LEFT_OUT.items():
        gone = selection.left_out.get(split, {})
        words |= dict.fromkeys(gone, word)
        notes |= {**gone, **selection.kept.get(split, {})}
    rows = [["id", "class", "split", "note"]]
    for i, (image_id, label) in enumerate(zip(index.ids, index.labels, strict=True)):
        unused = words.get(image_id) or ("unreadable" if i in unreadable else "unused")
        rows.append([image_id, index.class_names[label], place.get(i, unused), notes.get(image_id, "")])
    return rows


def recorded_selection(path: Path, index: ImageIndex, splits: SplitTable) -> Selection:
    """Return the splits that a run's splits.csv names, whatever would be drawn or left out today.

    Args:
        path: the file; those of earlier versions have no notes.
        index: the images of the run.
        splits: what the settings draw; says where test comes from.

    Raises:
        UserError: the file names an image that is not there.
    """
    position = {image_id: i for i, image_id in enumerate(index.ids)}
    places: dict[str, list[int]] = {split: [] for split in SPLITS}
    left_out: dict[str, dict[str, str]] = {split: {} for split in LEFT_OUT}
    kept: dict[str, dict[str, str]] = {split: {} for split in LEFT_OUT}
    split_left = {word: split for split, word in LEFT_OUT.items()}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            image_id, word, note = row["id"], row["split"], row.get("note") or ""
            if image_id not in position:
                raise UserError(
                    f"{path}: {image_id!r} is not among the images of {index.location}; the file was changed"
                )
            if word in places:
                places[word].append(position[image_id])
                if note:
                    kept[word][image_id] = note
            elif word in split_left:
                left_out[split_left[word]][image_id] = note
    positions = {split: np.array(sorted(where), dtype=np.int64) for split, where in places.items()}
    return Selection(replace(splits, positions=positions), left_out, kept)
