"""The verb `sweep`: varies configuration keys of an experiment."""

import argparse

from keras_bench.cli.options import Verbs, add_data, add_out, add_some_models, add_verb, check_seeds
from keras_bench.phases import PHASES


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "sweep",
        handle,
        "vary configuration keys of an experiment and compare the results",
        "Run every point of a sweep, each in a process of its own. The points come from a grid, a list or a search.",
        "Example: keras-bench sweep dropout --data tiny-imagenet-200.zip --seed 0 1 2",
    )
    add = parser.add_argument
    add(
        "sweeps",
        nargs="+",
        metavar="sweep",
        help="name in experiments/sweeps/, or a YAML file; several run one after another",
    )
    add("--experiment", help="name or YAML file of the experiment (default: the sweep's)")
    add_some_models(parser)
    add("--seed", type=int, nargs="+", dest="seeds", help="one or more seeds, as in run (default: the sweep's, else 0)")
    add("--phase", choices=PHASES, help="last phase to train (default: the sweep's)")
    add_data(parser)
    add_out(parser)
    add("--dry-run", action="store_true", help="print the points, the plan of one of them, and stop")


def handle(arguments: argparse.Namespace) -> int:
    """Run the sweeps in turn, or print what they would do."""
    from keras_bench.console import Log
    from keras_bench.sweep.plan import SweepRequest
    from keras_bench.sweep.run import checked_plan, run_sweep

    check_seeds(*arguments.seeds or ())
    requests = [
        SweepRequest(
            sweep=sweep,
            experiment=arguments.experiment,
            models=tuple(dict.fromkeys(arguments.models or ())),
            seeds=tuple(dict.fromkeys(arguments.seeds or ())),
            phase=arguments.phase,
            data=arguments.data,
            weights=arguments.weights,
            settings=tuple(arguments.settings),
            out=arguments.out,
        )
        for sweep in arguments.sweeps
    ]
    for request in requests[1:]:
        checked_plan(request)  # a mistake in the last file must not wait for hours; the first is planned at once
    return max(run_sweep(request, arguments.dry_run, Log()) for request in requests)
