"""Counts what every backbone costs at its default size, each in a fresh process; goes on where it was stopped.

    python -m benchmarks.count_backbones                    # all that are not in keras_bench/backbones/counted.csv yet
    python -m benchmarks.count_backbones --only VGG16

What is counted is the network as this project builds it: normalisation inside, without the 1000-class top.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.every_backbone import missing_rows
from keras_bench.backbones.facts import COUNTED
from keras_bench.backbones.table import BACKBONES

COLUMNS = ("model", "image_size", "parameters", "multiply_adds", "flops", "tensorflow", "keras")


def count_one(name: str) -> dict[str, object]:
    """Build one backbone in this process and return its row of the table."""
    import keras
    import tensorflow as tf

    from keras_bench.config import ModelConfig
    from keras_bench.cost.count import graph_flops, multiply_adds
    from keras_bench.models.build import ModelSpec, build_backbone

    row = BACKBONES[name]
    model = build_backbone(ModelSpec(row, row.image_size, 1000, ModelConfig(weights="none")))
    counts = (int(model.count_params()), multiply_adds(model), graph_flops(model))
    return dict(zip(COLUMNS, (name, row.image_size, *counts, tf.__version__, keras.__version__), strict=True))


def main() -> int:
    """Count what is missing; returns 1 where a backbone could not be counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(BACKBONES), help="this one, in this process, as JSON")
    parser.add_argument("--results", type=Path, default=COUNTED)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(count_one(arguments.only)))
        return 0
    rows = missing_rows("benchmarks.count_backbones", arguments.results, COLUMNS)
    failed = [name for name, row in rows if row is None]
    print(f"failed: {failed}" if failed else "every backbone is counted")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
