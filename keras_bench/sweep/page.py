"""The results of a sweep as a terminal table, a CSV file and one HTML page that opens offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import duration
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.words import use_of_test_sentence
from keras_bench.frames import frame_of
from keras_bench.pages.html import jinja_environment
from keras_bench.pages.provenance import Provenance
from keras_bench.pages.svg import inline_svg
from keras_bench.pages.text import shorten
from keras_bench.sweep.records import SweepRow, SweepTable

if TYPE_CHECKING:
    import pandas as pd


def sweep_table(table: SweepTable) -> Table:
    """Return the table for the terminal; `captions` explains its columns."""
    terminal = Table(title=Text(f"{table.name}: {table.title}" if table.title else table.name))
    several = len(table.models) > 1
    for name in (["model"] if several else []) + ["point"]:
        terminal.add_column(name)
    for name in (
        f"val {table.decision.label}",
        "test top-1",
        "balanced accuracy",
        "minority recall",
        "training",
        "against baseline",
    ):
        terminal.add_column(name, justify="right")
    terminal.add_column("p", justify="right")
    terminal.add_column("verdict on test")
    for number, row in enumerate(table.rows, start=1):
        is_last = number == len(table.rows) or table.rows[number].model != row.model
        terminal.add_row(*([row.model] if several else []), *_point_cells(row, table.decision), end_section=is_last)
    return terminal


def _point_cells(row: SweepRow, decision: DecisionMetric) -> list[str | Text]:
    gap, balanced = difference(row.paired), row.balanced_accuracy
    return [
        Text(row.point.label + (" *" if row.is_best else "") + (" (baseline)" if row.is_baseline else "")),
        f"{row.val_score:.1%}",
        _percent(row.top1),
        f"{balanced.value:.1%}" if decision is DecisionMetric.TOP1 else _percent(balanced),
        _percent(row.minority_recall) if row.minority_recall else "—",
        duration(row.seconds),
        Text(f"{100 * gap.value:+z.1f} [{gap.ends_text(form='+z.1f', between=', ')}]") if gap else "—",
        _p_value(row.paired.p_holm) if row.paired else "—",
        row.paired.verdict() if row.paired else "—",
    ]


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _percent(share: Interval) -> Text:
    # As Text, since a table reads words in brackets as styles.
    return Text(f"{share.value:.1%} [{share.ends_text(between=', ')}]")


def difference(pair: PairedTest | None) -> Interval | None:
    """Return the test score of a point minus that of the baseline, which is the first of the pair."""
    return pair.difference.negated if pair else None


def captions(table: SweepTable) -> list[str]:
    """Return the explanations of the columns, one or two sentences per line."""
    decision = table.decision
    lines = [
        f"* marks the best point, chosen on val{decision.clause}. {use_of_test_sentence(table.shared_with_val)} "
        "[low, high]: 95 % interval over test images."
    ]
    lines.append(
        f"Against the baseline: difference in test {decision.label} on the same images, in points; p of the "
        f"{decision.test_name}, with Holm's correction over all points of the table."
    )
    if len(table.seeds) > 1:
        seeds = ", ".join(map(str, table.seeds))
        tested = ", ".join(f"seed {seed} of {model}" for model, seed in table.seed.items())
        lines.append(
            f"Figures are means over seeds {seeds}; the paired tests and their differences use {tested or 'none'}."
        )
    lines.append("Training: the time of each point on its own; time for features that points share counts for each.")
    if table.minority:
        names = ", ".join(map(shorten, table.minority[:3]))
        more = f" and {len(table.minority) - 3} more" if len(table.minority) > 3 else ""
        lines.append(
            f"Minority recall: mean recall of the fifth of classes with the fewest training images ({names}{more})."
        )
    else:
        lines.append("Minority recall: —, since class sizes in train differ by no more than 10 %.")
    return lines


def sweep_frame(table: SweepTable) -> pd.DataFrame:
    """Return results.csv, one row per point of every model: all figures, and a column for each key that is set."""
    keys = list(dict.fromkeys(key for row in table.rows for key in row.point.settings))
    return frame_of(_point_row(row, keys, table) for row in table.rows)


def _point_row(row: SweepRow, keys: list[str], table: SweepTable) -> dict[str, object]:
    line: dict[str, object] = {"model": row.model, "point": row.point.label}
    line |= {key: _plain_value(row.point.settings[key]) if key in row.point.settings else None for key in keys}
    line |= {"baseline": row.is_baseline, "best_on_val": row.is_best, f"val_{table.decision}": row.val_score}
    for name in ("top1", "balanced_accuracy", "minority_recall"):
        line |= _ends(f"test_{name}", getattr(row, name))
    line |= {"seconds": row.seconds, **_ends("difference", difference(row.paired))}
    pair = row.paired
    line["p_value"], line["p_holm"] = (pair.p_value, pair.p_holm) if pair else (None, None)
    line["test_says"] = pair.verdict() if pair else None
    line["paired_seed"] = table.seed.get(row.model) if pair else None
    line |= {"seeds": " ".join(map(str, row.seeds)), "final_phases": " ".join(row.phases)}
    line[f"test_{table.decision}_of_seeds"] = " ".join(map(str, row.scores_of_seeds))
    return line | {"runs": " ".join(row.folders), "decided_by": f"val {table.decision}"}


def _plain_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _ends(name: str, found: Interval | None) -> dict[str, float | None]:
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def sweep_page(table: SweepTable, figures: Mapping[str, Figure], settings: str, provenance: Provenance) -> str:
    """Return the whole page.

    Args:
        table: everything it shows.
        figures: by the key of their factor.
        settings: the settings of all points, one line.
        provenance: of the page.
    """
    return (
        jinja_environment()
        .get_template("sweep_page.html.j2")
        .render(
            t=table,
            captions=captions(table),
            difference=difference,
            figures={key: Markup(inline_svg(figure)) for key, figure in figures.items()},
            settings=settings,
            provenance=provenance,
        )
    )
