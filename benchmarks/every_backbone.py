"""Fills a table with one row per backbone, each from a fresh process; rows that are already there are kept."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_bench.backbones.table import BACKBONES


def missing_rows(module: str, results: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Make the rows that a table lacks; yield each backbone with its row, written and printed, or None if it failed.

    Args:
        module: run as `python -m MODULE --only BACKBONE`; its last line of output is the row, as JSON.
        results: the table, CSV.
        columns: names of the table's columns; the first column holds the backbone.
    """
    done = {row[columns[0]] for row in csv.DictReader(results.open())} if results.is_file() else set()
    results.parent.mkdir(exist_ok=True)
    with results.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        if not done:
            writer.writeheader()
        for name in [name for name in BACKBONES if name not in done]:
            words = [sys.executable, "-m", module, "--only", name]
            process = subprocess.run(words, capture_output=True, text=True)
            if process.returncode:
                print(f"{name}: failed: {process.stderr.strip().splitlines()[-1:]}", flush=True)
                yield name, None
                continue
            row = json.loads(process.stdout.splitlines()[-1])
            writer.writerow(row)
            stream.flush()
            print(row, flush=True)
            yield name, row
