"""The command line: parses and delegates. Nothing heavy is imported before a verb is known."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from keras_bench import __version__
from keras_bench.errors import RunError, UserError, unknown_name

Verbs = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 when work failed, or 2 when the input is at fault."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parse(words)
        result: int = arguments.handler(arguments)
        return result
    except (UserError, RunError) as error:
        if "--debug" in words:
            traceback.print_exc()
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def _parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="keras-bench",
        description="Which pretrained backbone should I ship for my images, and what does it cost?",
        epilog="Start with: keras-bench run --experiment digits --dry-run",
    )
    parser.add_argument("--version", action="version", version=f"keras-bench {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add_verb in (_add_run, _add_suite, _add_report, _add_audit, _add_models):
        add_verb(verbs)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        options = [option for action in arguments.parser._actions for option in action.option_strings]
        raise UserError(unknown_name("option", unknown[0], options))
    return arguments


def _add_run(verbs: Verbs) -> None:
    run = verbs.add_parser(
        "run",
        help="train one model through its phases",
        description="Train one model of an experiment: frozen transfer learning, then fine-tuning, or from scratch.",
        epilog="Example: keras-bench run --experiment folder --data photos/ --model EfficientNetB0 --set tl.epochs=5",
    )
    _add_common(run)
    run.add_argument("--model", help="backbone (default: the experiment's first); see `keras-bench models`")
    run.add_argument("--seed", type=int, default=0, help="of weights, dropout, shuffling, augmentation (default: 0)")
    run.add_argument("--show-config", action="store_true", help="print the resolved configuration, explained, and stop")
    run.add_argument("--in-suite", action="store_true", help=argparse.SUPPRESS)
    run.set_defaults(handler=_run, parser=run)


def _add_suite(verbs: Verbs) -> None:
    suite = verbs.add_parser(
        "suite",
        help="train every model of an experiment and compare them",
        description="Run every model of an experiment one after another, each in a fresh process, and compare them.",
    )
    _add_common(suite)
    suite.add_argument("--model", action="append", dest="models", help="only this model; may be given several times")
    suite.add_argument("--seed", type=int, default=0, help="as in run (default: 0)")
    suite.set_defaults(handler=_suite, parser=suite)


def _add_report(verbs: Verbs) -> None:
    report = verbs.add_parser(
        "report",
        help="rebuild tables, figures and the HTML page of an experiment",
        description="Rebuild the comparison of an experiment's finished runs from their files, without training.",
        epilog="Example: keras-bench report demo --measure",
    )
    report.add_argument("experiment", help="an experiment's name, or its folder below the folder of all runs")
    report.add_argument("--model", action="append", dest="models", help="only this model; may be given several times")
    report.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    report.add_argument("--variant", help="of the experiment: runs/<experiment>@<variant>")
    report.add_argument("--measure", action="store_true", help="time all models again first, in turn")
    report.add_argument("--debug", action="store_true", help="show tracebacks")
    report.set_defaults(handler=_report, parser=report)


def _add_audit(verbs: Verbs) -> None:
    audit = verbs.add_parser(
        "audit",
        help="look through a data set before training: damage, duplicates, balance",
        description="Find unreadable images, duplicates within and across splits, thin and outsized classes.",
        epilog="Exit code 0: clean. 1: problems found. 2: the input was at fault. Example: keras-bench audit photos/",
    )
    audit.add_argument("data", nargs="?", type=Path, help="folder or zip of images; none for bundled sources")
    audit.add_argument("--experiment", help="whose data settings apply (default: none's)")
    audit.add_argument("--source", help="tiny-imagenet | folder | tfds | digits (default: by the layout)")
    audit.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="as in run")
    audit.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    audit.add_argument("--html", type=Path, metavar="FILE", help="write the findings as one HTML page")
    audit.add_argument("--force", action="store_true", help="replace those files if they exist")
    audit.add_argument("--debug", action="store_true", help="show tracebacks")
    audit.set_defaults(handler=_audit, parser=audit)


def _add_models(verbs: Verbs) -> None:
    models = verbs.add_parser("models", help="list the backbones", description="List the table of backbones.")
    models.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    models.set_defaults(handler=_models, parser=models)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--experiment",
        default="tiny-imagenet",
        help="name in experiments/, or a YAML file (default: tiny-imagenet)",
    )
    add("--phase", choices=("scratch", "tl", "ft"), help="last phase to train (default: the experiment's)")
    add("--data", type=Path, help="folder or zip of images (default: $KERAS_BENCH_DATA, else downloaded)")
    add(
        "--weights",
        help="imagenet | none | PATH | run:<experiment>/<model>/seed<k> (default: the experiment's)",
    )
    add(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="override, e.g. tl.epochs=3",
    )
    add("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    add("--variant", help="keep a changed recipe apart: runs/<experiment>@<variant>")
    add(
        "--dry-run",
        action="store_true",
        help="print the plan with an estimate of time, disk and memory, and stop",
    )
    add("--debug", action="store_true", help="show tracebacks")


def _request(arguments: argparse.Namespace, model: str | None):  # type: ignore[no-untyped-def]
    from keras_bench.jobs.request import Request

    if arguments.variant is not None and ("/" in arguments.variant or arguments.variant in ("", ".", "..")):
        raise UserError(f"--variant: expected a folder name without '/', received {arguments.variant!r}")
    if arguments.seed < 0:
        raise UserError(f"--seed: expected a whole number of at least 0, received {arguments.seed}")
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
    )


def _run(arguments: argparse.Namespace) -> int:
    from keras_bench.config import describe
    from keras_bench.console import Log
    from keras_bench.jobs.request import resolve

    job = resolve(_request(arguments, arguments.model))
    if arguments.show_config:
        print(describe(job.config), end="")
        return 0
    if arguments.dry_run:
        from keras_bench.jobs.plan import print_plan

        print_plan(job, Log())
        return 0
    from keras_bench.jobs.run import run_job

    run_job(job, Log(), arguments.in_suite)
    return 0


def _suite(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.suite import run_suite

    return run_suite(_request(arguments, None), arguments.models, arguments.dry_run, Log())


def _report(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.report import report
    from keras_bench.rundir import ExperimentDir, experiment_folder

    named = Path(arguments.experiment)
    is_folder = len(named.parts) > 1 and named.is_dir()
    folder = ExperimentDir(named) if is_folder else experiment_folder(arguments.out, str(named), arguments.variant)
    report(folder, arguments.models, arguments.measure, Log())
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.audit import AuditRequest, run_audit

    names = ("data", "experiment", "source", "json", "html", "force")
    words = {name: getattr(arguments, name) for name in names}
    return run_audit(AuditRequest(settings=tuple(arguments.settings), **words), Log())


def _models(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.models import print_models

    print_models(Log())
    return 0
