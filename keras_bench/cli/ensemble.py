"""The verb `ensemble`: averages finished runs."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_exports, add_verb, folder_name
from keras_bench.errors import UserError


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "ensemble",
        handle,
        "average finished runs and export them as one bundle",
        "Average the predictions of finished runs on the same images, and test the average against its best member.",
        "Example: keras-bench ensemble runs/demo/MobileNetV3Small/seed0 runs/demo/MobileNetV3Large/seed0",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="folders of finished runs, two or more")
    add("--fit-weights", action="store_true", help="fit the weights on validation (default: equal weights)")
    add("--name", help="name of the bundle (default: ensemble- and the members)")
    add("--data", type=Path, help="folder or zip of images (default: where the run found them)")
    add_exports(parser)
    add("--no-export", action="store_true", help="only print the comparison; write no bundle")


def handle(arguments: argparse.Namespace) -> int:
    """Average the runs and export the ensemble."""
    from keras_bench.console import Log
    from keras_bench.ensemble.run import default_name, run_ensemble
    from keras_bench.runs.folders import RunDir
    from keras_bench.runs.job import job_of_run

    if len(arguments.runs) < 2:
        raise UserError("expected two finished runs or more, received one")
    jobs = [job_of_run(RunDir(run), arguments.data, arguments.exports, {}) for run in arguments.runs]
    name = folder_name("--name", arguments.name or default_name(jobs))
    run_ensemble(jobs, name, arguments.fit_weights, not arguments.no_export, Log())
    return 0
