"""The verb `cache`: what lies in the cache of downloads and features, and how to make room."""

import argparse

from keras_bench.cli.options import Verbs, add_verb
from keras_bench.errors import UserError


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "cache",
        handle,
        "show or shrink the cache of downloads and features",
        "Show what is cached. Nothing in the cache is lost for good: all of it can be made again.",
    )
    parser.add_argument("--features-mb", type=int, metavar="MB", help="remove the oldest features beyond this size")
    parser.add_argument("--clear", action="store_true", help="remove everything, downloads too")


def handle(arguments: argparse.Namespace) -> int:
    """Show it, or make room."""
    from keras_bench.cli.cache_contents import clear_cache, limit_features, show_cache
    from keras_bench.console import Log

    if arguments.features_mb is not None and arguments.features_mb < 0:
        raise UserError(f"--features-mb: expected at least 0, received {arguments.features_mb}")
    if arguments.clear:
        clear_cache(Log())
    elif arguments.features_mb is not None:
        limit_features(arguments.features_mb, Log())
    else:
        show_cache(Log())
    return 0
