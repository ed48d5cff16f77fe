"""The verb `run`: trains one model through its phases."""

import argparse

from keras_bench.cli.options import Verbs, add_one_model, add_training, add_verb, request_of


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "run",
        handle,
        "train one model through its phases",
        "Train one model of an experiment: frozen transfer learning, then fine-tuning; or from scratch.",
        "Example: keras-bench run --experiment folder --data photos/ --model EfficientNetB0 --set tl.epochs=5",
    )
    add_training(parser)
    add_one_model(parser)
    parser.add_argument(
        "--show-config", action="store_true", help="print the resolved configuration with explanations and stop"
    )
    parser.add_argument("--in-suite", action="store_true", help=argparse.SUPPRESS)


def handle(arguments: argparse.Namespace) -> int:
    """Train, or print the configuration or the plan."""
    from keras_bench.config import describe
    from keras_bench.console import Log
    from keras_bench.printable import printable
    from keras_bench.runs.job import resolve

    job = resolve(request_of(arguments, arguments.model))
    if arguments.show_config:
        print(printable(describe(job.config), newlines=True), end="")
        return 0
    if arguments.dry_run:
        from keras_bench.workflow.plan import print_plan

        print_plan(job, Log())
        return 0
    from keras_bench.workflow.run import run_job

    run_job(job, Log(), arguments.in_suite)
    return 0
