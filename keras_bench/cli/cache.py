"""The verb `cache`: shows or shrinks the cache of downloads and features."""

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
        "Show what is cached. Everything in the cache can be downloaded or computed again.",
    )
    parser.add_argument(
        "--features-mb", type=int, metavar="MB", help="remove the least recently used features beyond this size"
    )
    parser.add_argument("--clear", action="store_true", help="remove everything, downloads too")


def handle(arguments: argparse.Namespace) -> int:
    """Show the cache, or shrink it."""
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
