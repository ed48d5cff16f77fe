"""Counts parameters and operations of every backbone at its default size; resumes where it was stopped.

    python -m benchmarks.count_backbones                    # all that are not in keras_bench/backbones/counted.csv yet
    python -m benchmarks.count_backbones --only VGG16

Each backbone is counted in a fresh process, as keras-bench builds it: with normalisation, without the 1000-class top.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.every_backbone import missing_rows
from keras_bench.backbones.facts import COUNTED
from keras_bench.backbones.table import BACKBONES

COLUMNS = ("model", "image_size", "parameters", "multiply_adds", "flops", "tensorflow", "keras")


def count_backbone(name: str) -> dict[str, object]:
    """Build one backbone in this process and return its row of the table."""
    import keras
    import tensorflow as tf

    from keras_bench.config import ModelConfig
    from keras_bench.cost.count import graph_flops, multiply_adds
    from keras_bench.models.build import ModelSpec, build_backbone

    backbone = BACKBONES[name]
    model = build_backbone(ModelSpec(backbone, backbone.image_size, 1000, ModelConfig(weights="none")))
    counts = (int(model.count_params()), multiply_adds(model), graph_flops(model))
    return dict(zip(COLUMNS, (name, backbone.image_size, *counts, tf.__version__, keras.__version__), strict=True))


def main() -> int:
    """Count the backbones that the table lacks; return 1 if one could not be counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=list(BACKBONES), help="count only this one, in this process, and print its row as JSON"
    )
    parser.add_argument("--results", type=Path, default=COUNTED)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(count_backbone(arguments.only)))
        return 0
    rows = missing_rows("benchmarks.count_backbones", arguments.results, COLUMNS)
    failed = [name for name, row in rows if row is None]
    print(f"failed: {failed}" if failed else "every backbone is counted")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
