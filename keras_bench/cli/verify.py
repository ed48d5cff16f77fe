"""The verb `verify`: checks a bundle."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_verb, at_least


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "verify",
        handle,
        "check a bundle: checksums, sample images, accuracy",
        "Check that a bundle is whole and predicts as it did when it was made, without running any code in it; exit "
        "code 1: it does not. 2: it is malformed.",
        "Example: keras-bench verify exports/demo/MobileNetV3Small-ft-seed0",
    )
    parser.add_argument("bundle", type=Path, help="folder that keras-bench export wrote")
    parser.add_argument("--data", type=Path, help="also measure accuracy on the test images of this data set")
    words = "also check that the holder of this key signed it: the public Ed25519 key, PEM; needs keras-bench[sign]"
    parser.add_argument("--key", type=Path, metavar="PUBLIC.pem", help=words)
    parser.add_argument("--limit", type=int, metavar="N", help="maximum number of test images (default: all)")


def handle(arguments: argparse.Namespace) -> int:
    """Verify the bundle."""
    from keras_bench.console import Log
    from keras_bench.export.verify import verify_bundle

    limit = None if arguments.limit is None else at_least("--limit", arguments.limit, 1)
    verify_bundle(arguments.bundle, arguments.data, limit, Log(), arguments.key)
    return 0
