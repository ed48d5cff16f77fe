"""The findings of an audit as tables for the terminal and as an HTML page."""

from rich.table import Table
from rich.text import Text

from keras_bench.audit.findings import Audit, class_totals
from keras_bench.data.index import SPLITS
from keras_bench.pages.html import jinja_environment
from keras_bench.printable import printable

MAX_LISTED_CLASSES = 20  # beyond this number, only the smallest and largest are listed on the terminal
MAX_LISTED_GROUPS = 10  # groups of duplicates listed on the terminal


def audit_tables(audit: Audit) -> list[Table]:
    """Return tables of classes, files and duplicates, and of classes whose images look alike."""
    return [
        _class_table(audit),
        _file_table(audit),
        *([_duplicate_table(audit)] if audit.groups else []),
        *_alike_tables(audit),
    ]


def audit_page(audit: Audit) -> str:
    """Return the findings as one HTML page that opens offline."""
    pages = jinja_environment()
    pages.globals["class_totals"] = class_totals
    return pages.get_template("audit_page.html.j2").render(audit=audit)


def _class_table(audit: Audit) -> Table:
    rows = sorted(audit.images_per_class.items(), key=lambda item: -sum(item[1].values()))
    table = Table(title=Text(printable(f"{audit.location}: {len(rows)} classes")))
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    half = MAX_LISTED_CLASSES // 2
    shown = rows if len(rows) <= MAX_LISTED_CLASSES else [*rows[:half], None, *rows[-half:]]
    for row in shown:
        if row is None:
            table.add_row(f"… {len(rows) - 2 * half} more …", *[""] * len(SPLITS))
        else:
            table.add_row(Text(printable(audit.title(row[0]))), *[f"{row[1][split]:,}" for split in SPLITS])
    return table


def _file_table(audit: Audit) -> Table:
    table = Table(title="files")
    for name in ("what", "found"):
        table.add_column(name)
    table.add_row("images", f"{audit.images:,}, of them {len(audit.unreadable):,} unreadable")
    table.add_row("width × height, pixels", f"{_range(audit.widths)} × {_range(audit.heights)}")
    table.add_row("colour modes", ", ".join(f"{mode} {count:,}" for mode, count in audit.modes.items()))
    table.add_row("formats", ", ".join(f"{kind} {count:,}" for kind, count in audit.formats.items()))
    if audit.animated:
        table.add_row(
            "animated", Text(f"{len(audit.animated):,}, e.g. {audit.animated[0]}; only first frames are used")
        )
    table.add_row("largest class over smallest", f"{audit.imbalance:.1f}")
    table.add_row("groups of duplicates", f"{audit.exact_groups:,} exact, {audit.near_groups:,} near")
    table.add_row("val or test images also in train", f"{audit.across_splits:,}")
    table.add_row("val images also in test", f"{audit.leaks['val'].count:,}")
    return table


def _duplicate_table(audit: Audit) -> Table:
    count = audit.exact_groups + audit.near_groups
    table = Table(title=f"duplicates ({min(count, MAX_LISTED_GROUPS)} of {count} groups)")
    for name in ("kind", "image", "split", "class"):
        table.add_column(name)
    for group in audit.groups[:MAX_LISTED_GROUPS]:
        for number, (image_id, split, name) in enumerate(zip(group.ids, group.splits, group.classes, strict=True)):
            is_last = number + 1 == len(group.ids)
            cells = map(Text, map(printable, (image_id, split, audit.title(name))))
            table.add_row(group.kind if number == 0 else "", *cells, end_section=is_last)
    return table


def _alike_tables(audit: Audit) -> list[Table]:
    """Return a table of classes whose near-duplicates are probably different images, or no table."""
    if not any(leaks.alike for leaks in audit.leaks.values()):
        return []
    table = Table(title="near-duplicates too many to be copies: dataset.remove_leaked=near keeps them")
    for name in ("split", "class", "images", "of", "e.g.", "held out"):
        table.add_column(name, justify="right" if name in ("images", "of") else "left")
    for split, leaks in audit.leaks.items():
        for alike in sorted(leaks.alike, key=lambda alike: -len(alike.ids))[:MAX_LISTED_GROUPS]:
            example = map(Text, map(printable, alike.examples[0]))
            table.add_row(
                split, Text(printable(audit.title(alike.name))), f"{len(alike.ids):,}", f"{alike.of:,}", *example
            )
    return [table]


def _range(sides: dict[int, int]) -> str:
    return f"{min(sides)}" if len(sides) == 1 else f"{min(sides)} to {max(sides)}" if sides else "—"
