"""The verb `predict`: classifies files with a bundle, with the same runner that every bundle contains."""

from collections.abc import Sequence

from keras_bench.cli.options import Verbs


def add_to(verbs: Verbs) -> None:
    """Add the verb to the list of all; its options are the runner's."""
    verbs.add_parser("predict", help="classify images with a bundle; see `keras-bench predict --help`")


def main(command: Sequence[str]) -> int:
    """Run it and return the exit code."""
    from keras_bench.bundle import command as runner

    return runner.main(list(command), prog="keras-bench predict")
