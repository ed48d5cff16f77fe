"""The verb `audit`: checks a data set before training."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_settings, add_verb


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "audit",
        handle,
        "check a data set before training: damage, duplicates, class balance",
        "Find unreadable images, duplicates within and across splits, very small and very large classes.",
        "Exit code 0: clean. 1: problems found. 2: the input is wrong. Example: keras-bench audit photos/",
    )
    add = parser.add_argument
    add("data", nargs="?", type=Path, help="folder, zip or CSV table of images; omit it for bundled sources")
    add("--experiment", help="experiment whose data settings apply (default: none)")
    add("--source", help="tiny-imagenet | folder | csv | tfds | digits | digit-scenes (default: by the layout)")
    add_settings(parser, "as in run")
    add("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    add("--html", type=Path, metavar="FILE", help="write the findings as one HTML page")
    add("--force", action="store_true", help="overwrite existing output files")


def handle(arguments: argparse.Namespace) -> int:
    """Audit the data set; return 1 if problems were found."""
    from keras_bench.audit.command import AuditRequest, run_audit
    from keras_bench.console import Log

    names = ("data", "experiment", "source", "json", "html", "force")
    words = {name: getattr(arguments, name) for name in names}
    return run_audit(AuditRequest(settings=tuple(arguments.settings), **words), Log())
