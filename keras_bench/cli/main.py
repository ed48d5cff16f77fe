"""The command line: parses and delegates. Slow imports happen only once the verb is known."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

from keras_bench import __version__
from keras_bench.cli import (
    audit,
    cache,
    doctor,
    ensemble,
    export,
    lr_find,
    models,
    predict,
    report,
    run,
    suite,
    sweep,
    verify,
)
from keras_bench.cli.options import Parser
from keras_bench.disk import describe_os_error
from keras_bench.errors import RunError, UserError, memory_named, one_line, unknown_name
from keras_bench.printable import accept_all_characters, printable
from keras_bench.processes import Interrupted, interruptible

# In the order of --help. Each module has `add_to(verbs)`; a new verb is a module and its name here.
VERBS = (run, suite, sweep, report, export, verify, predict, ensemble, audit, models, lr_find, cache, doctor)
# What to change if a verb runs out of memory that no part of a run reports; the others have no such setting.
MEMORY_REMEDIES = {
    "lr-find": "try a smaller batch size, e.g. --set training.batch_size=16",
    "ensemble": "try fewer members, or --no-export to write no bundle",
    "export": "try --no-int8, or --verify-limit 500 to compare fewer test images",
    "report": "try fewer models, each named by --model, or a machine with more memory",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if work failed, 2 if the input is wrong, 128 + n on signal n."""
    command = list(sys.argv[1:] if argv is None else argv)
    accept_all_characters()
    sys.excepthook = _print_exception
    if command[:1] == ["predict"]:  # same command line as predict.py in a bundle
        return predict.main(command[1:])
    effect = "continues where it stopped" if command[:1] in (["run"], ["suite"], ["sweep"]) else "starts over"
    message = f"interrupted; the same command {effect}"
    try:
        where = " ".join(["keras-bench", *command[:1]])
        with interruptible(message), memory_named(where, MEMORY_REMEDIES.get("".join(command[:1]), "")):
            arguments = parse(command)
            return int(arguments.handler(arguments))
    except (UserError, RunError) as error:
        if "--debug" in command:
            _print_exception(type(error), error, error.__traceback__)
        print(printable(f"error: {one_line(error, limit=None)}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # what reads the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RunError.exit_code
    except OSError as error:
        if "--debug" in command:
            _print_exception(type(error), error, error.__traceback__)
        text, code = describe_os_error(error)
        print(printable(f"error: {one_line(text, limit=None)}"), file=sys.stderr)
        return code
    except KeyboardInterrupt as error:
        print(message, file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else 130


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, as Python would, but for names from data that could control the terminal."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable(text, newlines=True), end="", file=sys.stderr)


def parse(command: Sequence[str]) -> argparse.Namespace:
    """Return the parsed options, and the verb's function as `handler`.

    Raises:
        UserError: an option is unknown, missing or has a value of the wrong type.
    """
    parser = Parser(
        prog="keras-bench",
        description="Which pretrained backbone should I ship for my images, and what does it cost?",
        epilog="Start with: keras-bench run --experiment digits --dry-run",
    )
    parser.add_argument("--version", action="version", version=f"keras-bench {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_to(verbs)
    arguments, unknown = parser.parse_known_args(command)
    if unknown:
        options = [option for action in arguments.parser._actions for option in action.option_strings]
        raise UserError(unknown_name("option", unknown[0], options))
    return arguments
