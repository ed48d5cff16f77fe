"""The verb `audit`: looks through a data set before training."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_settings, add_verb


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "audit",
        handle,
        "look through a data set before training: damage, duplicates, balance",
        "Find unreadable images, duplicates within and across splits, thin and outsized classes.",
        "Exit code 0: clean. 1: problems found. 2: the input was at fault. Example: keras-bench audit photos/",
    )
    add = parser.add_argument
    add("data", nargs="?", type=Path, help="folder, zip or CSV table of images; none for bundled sources")
    add("--experiment", help="whose data settings apply (default: none's)")
    add("--source", help="tiny-imagenet | folder | csv | tfds | digits (default: by the layout)")
    add_settings(parser, "as in run")
    add("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    add("--html", type=Path, metavar="FILE", help="write the findings as one HTML page")
    add("--force", action="store_true", help="replace those files if they exist")


def handle(arguments: argparse.Namespace) -> int:
    """Look through it, and return 1 where problems were found."""
    from keras_bench.audit.command import AuditRequest, run_audit
    from keras_bench.console import Log

    names = ("data", "experiment", "source", "json", "html", "force")
    words = {name: getattr(arguments, name) for name in names}
    return run_audit(AuditRequest(settings=tuple(arguments.settings), **words), Log())
