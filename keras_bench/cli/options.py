"""Options that several verbs share. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from keras_bench.errors import UserError, quoted
from keras_bench.phases import PHASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras_bench.runs.job import Request

Verbs = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def add_verb(
    verbs: Verbs,
    name: str,
    handler: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    example: str | None = None,
) -> argparse.ArgumentParser:
    """Add a verb to the command line, with the option `--debug`.

    Args:
        verbs: the command line's subparsers.
        name: the verb.
        handler: does the work, and returns the exit code.
        summary: its line in the list of all verbs.
        description: the first lines of its own help.
        example: the last lines of its own help.
    """
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=description, epilog=example)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(verb=name, handler=handler, parser=parser)
    return parser


def add_one_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--seed` of a verb that works on one run."""
    parser.add_argument("--model", help="backbone (default: the experiment's first); see `keras-bench models`")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, dropout, shuffling and augmentation (default: 0)"
    )


def add_some_models(parser: argparse.ArgumentParser) -> None:
    """Add `--model` of a verb that works on several."""
    words = "only this model; may be given several times"
    parser.add_argument("--model", action="append", dest="models", metavar="MODEL", help=words)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out`."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs (default: runs)"
    )


def add_exports(parser: argparse.ArgumentParser) -> None:
    """Add `--exports`."""
    parser.add_argument("--exports", type=Path, metavar="DIR", help="folder of all ONNX bundles (default: exports)")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add `--data`, `--weights` and `--set`."""
    add = parser.add_argument
    add("--data", type=Path, help="folder, zip or CSV table of images (default: $KERAS_BENCH_DATA, else downloaded)")
    add("--weights", help="imagenet | none | PATH | run:<experiment>/<model>/seed<k> (default: the experiment's)")
    add_settings(parser, "override a configuration key, e.g. tl.epochs=3; may be given several times")


def add_settings(parser: argparse.ArgumentParser, words: str) -> None:
    """Add `--set`, which may be given several times."""
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help=words)


def add_recipe(parser: argparse.ArgumentParser, phase: str) -> None:
    """Add the options that decide how a model is trained; `phase` is the help text of `--phase`."""
    add = parser.add_argument
    add("--experiment", default="tiny-imagenet", help="name in experiments/, or a YAML file (default: tiny-imagenet)")
    add("--phase", choices=PHASES, help=phase)
    add_data(parser)
    add_out(parser)
    add("--variant", help="keep a changed recipe in a folder of its own: runs/<experiment>@<variant>")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of a verb that trains, exports and reports."""
    add_recipe(parser, "last phase to train (default: the experiment's)")
    add_exports(parser)
    add = parser.add_argument
    add("--no-export", action="store_true", help="write no ONNX bundles at the end")
    add("--dry-run", action="store_true", help="print the plan with an estimate of time, disk and memory, and stop")


def request_of(arguments: argparse.Namespace, model: str | None) -> Request:
    """Return the command line as a request for one model or, with None, for all models of the experiment.

    Raises:
        UserError: a name cannot be a folder's, or the seed is negative.
    """
    from keras_bench.runs.job import Request

    if arguments.variant is not None:
        folder_name("--variant", arguments.variant)
    check_seeds(arguments.seed)
    return Request(
        experiment=arguments.experiment,
        model=model,
        phase=arguments.phase,
        data=arguments.data,
        weights=arguments.weights,
        seed=arguments.seed,
        out=arguments.out,
        variant=arguments.variant,
        settings=tuple(arguments.settings),
        exports=arguments.exports,
        export=not arguments.no_export,
    )


def folder_name(option: str, name: str) -> str:
    """Return a name after checking that a folder can have it.

    Raises:
        UserError: the name is empty, ".", ".." or contains "/".
    """
    if "/" in name or name in ("", ".", ".."):
        raise UserError(f"{option}: expected a folder name without '/', received {name!r}")
    return name


def check_seeds(*seeds: int) -> None:
    """Refuse a seed that the random number generators do not take.

    Raises:
        UserError: a value of --seed is negative or too large.
    """
    from keras_bench.config.recipe import MAX_SEED

    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UserError(f"--seed: expected a whole number from 0 to {MAX_SEED}, received {quoted(seed)}")


def at_least(option: str, value: int, least: int) -> int:
    """Return a value after checking that it is at least `least`.

    Raises:
        UserError: the value is smaller.
    """
    if value < least:
        raise UserError(f"{option}: expected a whole number of at least {least}, received {value}")
    return value
