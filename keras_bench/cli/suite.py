"""The verb `suite`: trains every model of an experiment and compares them."""

import argparse

from keras_bench.cli.options import Verbs, add_some_models, add_training, add_verb, request_of


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "suite",
        handle,
        "train every model of an experiment and compare them",
        "Train every model of an experiment one after another, each in a process of its own, and compare them.",
    )
    add_training(parser)
    add_some_models(parser)
    parser.add_argument("--seed", type=int, default=0, help="as in run (default: 0)")


def handle(arguments: argparse.Namespace) -> int:
    """Run all models, or print their plans."""
    from keras_bench.console import Log
    from keras_bench.workflow.suite import run_suite

    return run_suite(request_of(arguments, None), arguments.models, arguments.dry_run, Log())
