"""The verb `doctor`: checks whether this machine and this installation are ready for runs."""

import argparse

from keras_bench.cli.options import Verbs, add_out, add_verb


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "doctor",
        handle,
        "check this machine and this installation",
        "Check versions, devices, memory, disk, caches, weight files and the preprocessing of every backbone. "
        "Exit code 1 if there is a problem. Uses no network.",
    )
    add_out(parser)


def handle(arguments: argparse.Namespace) -> int:
    """Run all checks; return 1 if there is a problem."""
    from keras_bench.cli.diagnosis import diagnose, print_checks
    from keras_bench.console import Log

    checks = diagnose(arguments.out)
    print_checks(checks, Log())
    return 1 if any(check.remedy for check in checks) else 0
