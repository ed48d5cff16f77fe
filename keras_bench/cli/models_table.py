"""The verb `models`: a table of backbones with their cost, published accuracy and whether weights are present."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from keras_bench.backbones.facts import FACT_SOURCES, BackboneFacts, facts_of
from keras_bench.backbones.table import BACKBONES, Backbone
from keras_bench.console import Log
from keras_bench.errors import UserError, nearest, unknown_name
from keras_bench.runs.weights import keras_home

MISSING = "—"
MAX_NAMED_FILES = 10  # weight files are listed below the table for at most this many backbones
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_COMPARISON = re.compile(rf"(.*?)({'|'.join(COMPARISONS)})(.*)")


@dataclass(frozen=True)
class Row:
    """One backbone with everything that the table shows.

    Attributes:
        backbone: its entry in BACKBONES.
        facts: published and counted figures.
        weights: whether ImageNet weights for alpha 1 and the default size are on this machine ("here"), can be
            downloaded ("download") or do not exist ("none").
    """

    backbone: Backbone
    facts: BackboneFacts
    weights: str

    def text(self, field: str) -> str:
        """Return the value of a field in `TEXTS`."""
        texts = {"name": self.backbone.name, "family": self.backbone.family.name, "source": self.facts.source}
        return {**texts, "weights": self.weights}[field]

    def number(self, field: str) -> float | None:
        """Return the value of a field in `NUMBERS` in the table's unit; None if there is no figure."""
        facts = self.facts
        numbers: dict[str, float | None] = {
            "size": self.backbone.image_size,
            "parameters": self.backbone.parameters_millions,
            "backbone": _in_units(facts.parameters, 1e6),
            "multiply_adds": _in_units(facts.multiply_adds, 1e9),
            "flops": _in_units(facts.flops, 1e9),
            "top1": facts.top1,
            "top5": facts.top5,
        }
        return numbers[field]


TEXTS = ("name", "family", "weights", "source")
HEADINGS = {
    "size": "size",
    "parameters": "params\nM",
    "backbone": "backbone\nM",
    "multiply_adds": "mult-adds\nG",
    "flops": "FLOPs\nG",
    "top1": "top-1\n%",
    "top5": "top-5\n%",
}
NUMBERS = tuple(HEADINGS)
BEST_IS_HIGHEST = ("top1", "top5")


def print_models(filters: Sequence[str], sort: str | None, log: Log) -> None:
    """Print the backbones that pass every filter, in the order of the table or sorted.

    Args:
        filters: texts of --filter, see `passes`.
        sort: a field, see `sort_rows`; None: the order of the table.
        log: prints to the terminal.

    Raises:
        UserError: a filter or the field is invalid, or no backbone passes.
    """
    all_rows = [_backbone_row(backbone) for backbone in BACKBONES.values()]
    rows = [row for row in all_rows if all(passes(row, text) for text in filters)]
    if not rows:
        raise UserError(_why_none_passes(all_rows, filters))
    if sort is not None:
        rows = sort_rows(rows, sort)
    log.table(_backbone_table(rows))
    for note in _notes(rows):
        log.line(note)
    scratch = " --phase scratch" if rows[0].weights == "none" else ""
    log.line(f"next: keras-bench run --model {rows[0].backbone.name}{scratch} --dry-run")


def passes(row: Row, text: str) -> bool:
    """Return whether a backbone passes one filter.

    A filter is part of a name or family ("resnet"), compares a number ("top1>77", also <, <=, >=, =; a backbone without
    that figure does not pass) or compares a text ("weights=here"). Case is ignored.

    Raises:
        UserError: the field is unknown, or its value must be a number and is not.
    """
    match = _COMPARISON.fullmatch(text)
    if match is None:
        word = text.strip().lower()
        if not word:
            raise UserError(f"--filter: expected text or a comparison such as 'top1>77', received {text!r}")
        return word in row.text("name").lower() or word in row.text("family").lower()
    field, sign, value = (part.strip() for part in match.groups())
    field = field.lower()
    if field in TEXTS and sign == "=":
        return row.text(field).lower() == value.lower()
    if field not in NUMBERS:
        _refuse_field(f"--filter {text}", field, sign)
    try:
        limit = float(value)
    except ValueError as error:
        raise UserError(f"--filter {text}: expected a number after {sign}, received {value!r}") from error
    figure = row.number(field)
    return figure is not None and COMPARISONS[sign](figure, limit)


def sort_rows(rows: Sequence[Row], field: str) -> list[Row]:
    """Return rows sorted by a field: accuracies highest first, others lowest first, rows without a figure last.

    Raises:
        UserError: the field is unknown.
    """
    field = field.lower()
    if field in TEXTS:
        return sorted(rows, key=lambda row: row.text(field).lower())
    if field not in NUMBERS:
        raise UserError(f"--sort: {unknown_name('field', field, (*TEXTS, *NUMBERS))}")
    sign = -1 if field in BEST_IS_HIGHEST else 1
    with_figure = [(figure, row) for row in rows if (figure := row.number(field)) is not None]
    ordered = [row for _, row in sorted(with_figure, key=lambda pair: sign * pair[0])]
    return ordered + [row for row in rows if row.number(field) is None]


def _refuse_field(where: str, field: str, sign: str) -> None:
    if field in TEXTS:
        raise UserError(f"{where}: {field} is text and compares with = only, received {sign}")
    raise UserError(f"{where}: {unknown_name('field', field, (*TEXTS, *NUMBERS))}")


def _why_none_passes(rows: Sequence[Row], filters: Sequence[str]) -> str:
    """Return an error message: how many pass each filter alone or, if none does, names similar to the first filter."""
    passing = {text: sum(passes(row, text) for row in rows) for text in filters}
    if any(passing.values()):
        counts = ", ".join(f"{text!r} {count}" for text, count in passing.items())
        return f"--filter: no backbone passes all filters; of {len(rows)}, this many pass each alone: {counts}"
    first = filters[0].strip()
    names = [*dict.fromkeys(row.text("family") for row in rows), *(row.text("name") for row in rows)]
    similar = [] if _COMPARISON.fullmatch(first) else nearest(first, names)
    hint = f"; did you mean {' or '.join(repr(name) for name in similar)}?" if similar else "; leave it out to see all"
    return f"--filter {first}: none of the {len(rows)} backbones passes{hint}"


def _backbone_row(backbone: Backbone) -> Row:
    facts, source = facts_of(backbone.name), backbone.weights_source()
    if source is None:
        return Row(backbone, facts, "none")
    return Row(backbone, facts, "here" if _is_here(source[1]) else "download")


def _is_here(name: str) -> bool:
    return (keras_home() / "models" / name).is_file()


def _backbone_table(rows: Sequence[Row]) -> Table:
    table = Table(title=f"{len(rows)} of {len(BACKBONES)} backbones")
    table.add_column("name")
    table.add_column("family")
    for field in NUMBERS:
        table.add_column(HEADINGS[field], justify="right")
    for heading in ("source", "weights"):
        table.add_column(heading)
    digits = {"size": 0, "multiply_adds": 2, "flops": 2}
    for row in rows:
        figures = (_figure(row.number(field), digits.get(field, 1)) for field in NUMBERS)
        table.add_row(row.text("name"), row.text("family"), *figures, row.facts.source or MISSING, row.weights)
    return table


def _notes(rows: Sequence[Row]) -> list[str]:
    """Return the lines below the table: what the columns mean and, for few backbones, the files of their weights."""
    sources = [name for name in FACT_SOURCES if any(row.facts.source == name for row in rows)]
    lines = [
        "params: published, with the 1000-class top; backbone: counted without it, since a run adds a head of its own",
        "mult-adds: counted for one image of that size, without the top; FLOPs: all operations, two per mult-add",
        "top-1, top-5: published, on ImageNet's validation images at alpha 1; —: the source states none",
        *(f"  {name}: {FACT_SOURCES[name]}" for name in sources),
        f"weights: from ImageNet, for that size and alpha 1, in {keras_home() / 'models'}; none: train from scratch",
    ]
    if len(rows) <= MAX_NAMED_FILES:
        lines += [line for row in rows for line in _weight_file_lines(row.backbone)]
    return lines


def _weight_file_lines(backbone: Backbone) -> list[str]:
    """Return lines that name a backbone's weight file and, if there are files for other sizes, which are present."""
    source = backbone.weights_source()
    if source is None:
        return []
    lines = [f"  {backbone.name}: {source[1]} from {source[0]}"]
    files = {
        size: backbone.weights_source(size=size) for size in backbone.weights_sizes() if size != backbone.image_size
    }
    if files:
        here = [str(size) for size, file in files.items() if file is not None and _is_here(file[1])]
        sizes = ", ".join(map(str, files))
        lines.append(
            f"    others for inputs of {sizes} pixels, with that number in the name; here: {', '.join(here) or 'none'}"
        )
    return lines


def _figure(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _in_units(count: int | None, unit: float) -> float | None:
    return None if count is None else count / unit
