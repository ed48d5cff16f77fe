"""The verb `lr-find`: finds a learning rate for a phase."""

import argparse

from keras_bench.cli.options import Verbs, add_one_model, add_recipe, add_verb, request_of


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "lr-find",
        handle,
        "find a learning rate for a phase",
        "Train for a number of steps while the learning rate grows, plot the loss, and suggest the rate at which it "
        "falls fastest. No run is changed.",
        "Example: keras-bench lr-find --experiment folder --data photos/ --model EfficientNetB0 --phase tl",
    )
    add_recipe(parser, "phase to find a learning rate for (default: the experiment's last)")
    add_one_model(parser)
    add = parser.add_argument
    add("--steps", type=int, default=100, metavar="N", help="number of training steps (default: 100)")
    add("--low", type=float, default=1e-7, metavar="RATE", help="first learning rate (default: 1e-7)")
    add("--high", type=float, default=1.0, metavar="RATE", help="last learning rate (default: 1)")
    parser.set_defaults(exports=None, no_export=False)


def handle(arguments: argparse.Namespace) -> int:
    """Find the learning rate."""
    from keras_bench.console import Log
    from keras_bench.lr_find.find import RateRange, find_rate
    from keras_bench.runs.job import resolve

    span = RateRange(arguments.low, arguments.high, arguments.steps)
    find_rate(resolve(request_of(arguments, arguments.model)), span, Log())
    return 0
