"""The options of every verb. Nothing heavy is imported."""

import argparse
from pathlib import Path
from typing import NoReturn

from keras_bench import __version__
from keras_bench.errors import UserError, unknown_name

Verbs = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def parse(words: list[str]) -> argparse.Namespace:
    """Return the command line's words by option, and which `verb` they are for.

    Raises:
        UserError: an option is unknown, missing or of the wrong kind.
    """
    parser = Parser(
        prog="keras-bench",
        description="Which pretrained backbone should I ship for my images, and what does it cost?",
        epilog="Start with: keras-bench run --experiment digits --dry-run",
    )
    parser.add_argument("--version", action="version", version=f"keras-bench {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add_verb in (
        _add_run,
        _add_suite,
        _add_sweep,
        _add_report,
        _add_export,
        _add_verify,
        _add_predict,
        _add_ensemble,
        _add_audit,
        _add_models,
        _add_lr_find,
        _add_cache,
    ):
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
    _add_one_model(run)
    run.add_argument("--show-config", action="store_true", help="print the resolved configuration, explained, and stop")
    run.add_argument("--in-suite", action="store_true", help=argparse.SUPPRESS)
    run.set_defaults(verb="run", parser=run)


def _add_suite(verbs: Verbs) -> None:
    suite = verbs.add_parser(
        "suite",
        help="train every model of an experiment and compare them",
        description="Run every model of an experiment one after another, each in a fresh process, and compare them.",
    )
    _add_common(suite)
    _add_some_models(suite)
    suite.add_argument("--seed", type=int, default=0, help="as in run (default: 0)")
    suite.set_defaults(verb="suite", parser=suite)


def _add_sweep(verbs: Verbs) -> None:
    sweep = verbs.add_parser(
        "sweep",
        help="vary configuration keys of an experiment and compare the points",
        description="Run every point of a sweep, each in a fresh process: of a grid, of a list, or drawn by a search.",
        epilog="Example: keras-bench sweep dropout --data tiny-imagenet-200.zip --seed 0 1 2",
    )
    add = sweep.add_argument
    add("sweeps", nargs="+", metavar="sweep", help="name in experiments/sweeps/, or a YAML file; several run in turn")
    add("--experiment", help="name or YAML file (default: the sweep's)")
    _add_some_models(sweep)
    add("--seed", type=int, nargs="+", dest="seeds", help="one or more, as in run (default: the sweep's, else 0)")
    add("--phase", choices=("scratch", "tl", "ft"), help="last phase to train (default: the sweep's)")
    _add_data_options(sweep)
    add("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    add("--dry-run", action="store_true", help="print the points, the plan of one of them, and stop")
    add("--debug", action="store_true", help="show tracebacks")
    sweep.set_defaults(verb="sweep", parser=sweep)


def _add_report(verbs: Verbs) -> None:
    report = verbs.add_parser(
        "report",
        help="rebuild tables, figures and the HTML page of an experiment",
        description="Rebuild the comparison of an experiment's finished runs from their files, without training.",
        epilog="Example: keras-bench report demo --measure",
    )
    report.add_argument("experiment", help="an experiment's name, or its folder below the folder of all runs")
    _add_some_models(report)
    report.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    report.add_argument("--variant", help="of the experiment: runs/<experiment>@<variant>")
    report.add_argument("--measure", action="store_true", help="time all models again first, in turn")
    report.add_argument("--debug", action="store_true", help="show tracebacks")
    report.set_defaults(verb="report", parser=report)


def _add_export(verbs: Verbs) -> None:
    export = verbs.add_parser(
        "export",
        help="hand a finished run on as a checked ONNX bundle",
        description="Convert a finished run to ONNX, check it on the test images, and write the bundle.",
        epilog="Example: keras-bench export runs/demo/EfficientNetB0/seed0 --phase ft",
    )
    export.add_argument("run", type=Path, help="folder of a finished run: runs/<experiment>/<model>/seed<k>")
    export.add_argument("--phase", choices=("scratch", "tl", "ft"), help="default: every phase of the run")
    export.add_argument("--data", type=Path, help="folder or zip of images (default: where the run found them)")
    export.add_argument("--exports", type=Path, help="folder of all bundles (default: exports)")
    export.add_argument("--verify-limit", type=int, metavar="N", help="test images checked (default: all)")
    export.add_argument("--no-int8", action="store_true", help="make no 8-bit version")
    export.add_argument("--debug", action="store_true", help="show tracebacks")
    export.set_defaults(verb="export", parser=export)


def _add_verify(verbs: Verbs) -> None:
    verify = verbs.add_parser(
        "verify",
        help="check a bundle: sums, sample images, accuracy",
        description="Check that a bundle is whole and answers as it did when it was made; exit code 1: it does not.",
        epilog="Example: keras-bench verify exports/demo/EfficientNetB0-ft-seed0",
    )
    verify.add_argument("bundle", type=Path, help="folder that keras-bench export wrote")
    verify.add_argument("--data", type=Path, help="measure accuracy on the test images of this data set too")
    verify.add_argument("--limit", type=int, metavar="N", help="test images at most (default: all)")
    verify.add_argument("--debug", action="store_true", help="show tracebacks")
    verify.set_defaults(verb="verify", parser=verify)


def _add_predict(verbs: Verbs) -> None:
    verbs.add_parser("predict", help="classify images with a bundle; see `keras-bench predict --help`")


def _add_ensemble(verbs: Verbs) -> None:
    ensemble = verbs.add_parser(
        "ensemble",
        help="average finished runs and hand them on as one bundle",
        description="Average the answers of finished runs on the same images, and test that against the best of them.",
        epilog="Example: keras-bench ensemble runs/demo/EfficientNetB0/seed0 runs/demo/MobileNetV3Small/seed0",
    )
    ensemble.add_argument("runs", nargs="+", type=Path, help="folders of finished runs, two or more")
    ensemble.add_argument("--fit-weights", action="store_true", help="fit the weights on val (default: equal)")
    ensemble.add_argument("--name", help="of the bundle (default: ensemble- and the members)")
    ensemble.add_argument("--data", type=Path, help="folder or zip of images (default: where the run found them)")
    ensemble.add_argument("--exports", type=Path, help="folder of all bundles (default: exports)")
    ensemble.add_argument("--no-export", action="store_true", help="only print what the ensemble is worth")
    ensemble.add_argument("--debug", action="store_true", help="show tracebacks")
    ensemble.set_defaults(verb="ensemble", parser=ensemble)


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
    audit.set_defaults(verb="audit", parser=audit)


def _add_models(verbs: Verbs) -> None:
    models = verbs.add_parser(
        "models",
        help="list the backbones: cost, published accuracy, weights",
        description="List the backbones with their cost, published ImageNet accuracy, and whether weights lie here.",
        epilog="Fields: name, family, weights, source; size (pixels), parameters, backbone (millions), multiply_adds, "
        "flops (billions), top1, top5 (percent). "
        "Example: keras-bench models --filter efficientnet --filter 'parameters<10' --sort top1",
    )
    models.add_argument(
        "--filter",
        action="append",
        default=[],
        dest="filters",
        metavar="TEXT",
        help="part of a name or family, or a comparison in quotes ('top1>77', 'flops<1', weights=here); several must "
        "all hold",
    )
    models.add_argument("--sort", metavar="FIELD", help="accuracies highest first, all else lowest first")
    models.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    models.set_defaults(verb="models", parser=models)


def _add_lr_find(verbs: Verbs) -> None:
    find = verbs.add_parser(
        "lr-find",
        help="find a learning rate for a phase",
        description="Train some steps with a growing learning rate, draw the loss, and name the rate it falls "
        "fastest at. No run is touched.",
        epilog="Example: keras-bench lr-find --experiment folder --data photos/ --model EfficientNetB0 --phase tl",
    )
    _add_recipe(find, "phase to find a rate for (default: the experiment's last)")
    _add_one_model(find)
    find.add_argument("--steps", type=int, default=100, metavar="N", help="batches trained on (default: 100)")
    find.add_argument("--low", type=float, default=1e-7, metavar="RATE", help="the first rate (default: 1e-7)")
    find.add_argument("--high", type=float, default=1.0, metavar="RATE", help="the last rate (default: 1)")
    find.set_defaults(verb="lr-find", parser=find, exports=None, no_export=False)


def _add_cache(verbs: Verbs) -> None:
    cache = verbs.add_parser(
        "cache",
        help="show or shrink the cache of downloads and features",
        description="Show what is cached. Nothing in the cache is lost for good: all of it can be made again.",
    )
    cache.add_argument("--features-mb", type=int, metavar="MB", help="remove the oldest features beyond this size")
    cache.add_argument("--clear", action="store_true", help="remove everything, downloads too")
    cache.add_argument("--debug", action="store_true", help="show tracebacks")
    cache.set_defaults(verb="cache", parser=cache)


def _add_some_models(parser: argparse.ArgumentParser) -> None:
    words = "only this model; may be given several times"
    parser.add_argument("--model", action="append", dest="models", help=words)


def _add_one_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="backbone (default: the experiment's first); see `keras-bench models`")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout, shuffling, augmentation (default: 0)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser, "last phase to train (default: the experiment's)")
    add = parser.add_argument
    add("--exports", type=Path, help="folder of all ONNX bundles (default: exports)")
    add("--no-export", action="store_true", help="make no ONNX bundles at the end")
    add(
        "--dry-run",
        action="store_true",
        help="print the plan with an estimate of time, disk and memory, and stop",
    )


def _add_recipe(parser: argparse.ArgumentParser, phase: str) -> None:
    """Add what decides how a model is trained; `phase` is the help of --phase."""
    add = parser.add_argument
    add(
        "--experiment",
        default="tiny-imagenet",
        help="name in experiments/, or a YAML file (default: tiny-imagenet)",
    )
    add("--phase", choices=("scratch", "tl", "ft"), help=phase)
    _add_data_options(parser)
    add("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    add("--variant", help="keep a changed recipe apart: runs/<experiment>@<variant>")
    add("--debug", action="store_true", help="show tracebacks")


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
