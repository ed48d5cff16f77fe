"""The verb `models`: the table of backbones."""

import argparse

from keras_bench.cli.options import Verbs, add_verb


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "models",
        handle,
        "list the backbones: cost, published accuracy, weights",
        "List the backbones with their cost, published ImageNet accuracy, and whether weights are on this machine.",
        "Fields: name, family, weights, source; size (pixels), parameters, backbone (millions), multiply_adds, "
        "flops (billions), top1, top5 (percent). "
        "Example: keras-bench models --filter efficientnet --filter 'parameters<10' --sort top1",
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        dest="filters",
        metavar="TEXT",
        help="part of a name or family, or a comparison in quotes ('top1>77', 'flops<1', weights=here); a backbone "
        "must pass all filters",
    )
    parser.add_argument(
        "--sort", metavar="FIELD", help="field to sort by: accuracies highest first, all others lowest first"
    )


def handle(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from keras_bench.cli.models_table import print_models
    from keras_bench.console import Log

    print_models(arguments.filters, arguments.sort, Log())
    return 0
