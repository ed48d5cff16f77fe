"""The verb `report`: rebuilds the comparison of an experiment."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_out, add_some_models, add_verb


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "report",
        handle,
        "rebuild tables, figures and the HTML page of an experiment",
        "Rebuild the comparison of an experiment's finished runs from their files, without training.",
        "Example: keras-bench report demo --measure",
    )
    parser.add_argument("experiment", help="name of an experiment, or its folder, e.g. runs/demo")
    add_some_models(parser)
    add_out(parser)
    parser.add_argument("--variant", help="variant of the experiment: runs/<experiment>@<variant>")
    parser.add_argument("--measure", action="store_true", help="measure latency again first, the models taking turns")


def handle(arguments: argparse.Namespace) -> int:
    """Rebuild the comparison."""
    from keras_bench.console import Log
    from keras_bench.report.write import report
    from keras_bench.runs.folders import ExperimentDir, experiment_folder

    named = Path(arguments.experiment)
    is_folder = len(named.parts) > 1 and named.is_dir()
    folder = ExperimentDir(named) if is_folder else experiment_folder(arguments.out, str(named), arguments.variant)
    report(folder, arguments.models, arguments.measure, Log())
    return 0
