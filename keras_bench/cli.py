"""The command line: parses and delegates. Nothing heavy is imported before a verb is known."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_bench.arguments import parse
from keras_bench.errors import RunError, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 when work failed, or 2 when the input is at fault."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["predict"]:  # the runner has a command line of its own, the same as in a bundle
        from keras_bench import runner

        return runner.main(words[1:], prog="keras-bench predict")
    try:
        arguments = parse(words)
        return HANDLERS[arguments.verb](arguments)
    except (UserError, RunError) as error:
        if "--debug" in words:
            traceback.print_exc()
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        again = "continues where it stopped" if words[:1] in (["run"], ["suite"], ["sweep"]) else "starts over"
        print(f"interrupted; the same command {again}", file=sys.stderr)
        return 130


def _request(arguments: argparse.Namespace, model: str | None):  # type: ignore[no-untyped-def]
    from keras_bench.jobs.request import Request

    if arguments.variant is not None:
        _folder_name("--variant", arguments.variant)
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
        exports=arguments.exports,
        export=not arguments.no_export,
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


def _sweep(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.sweep import checked_plan, run_sweep
    from keras_bench.jobs.sweep_plan import SweepRequest

    for seed in arguments.seeds or ():
        if seed < 0:
            raise UserError(f"--seed: expected whole numbers of at least 0, received {seed}")
    requests = [
        SweepRequest(
            sweep=sweep,
            experiment=arguments.experiment,
            models=tuple(dict.fromkeys(arguments.models or ())),
            seeds=tuple(dict.fromkeys(arguments.seeds or ())),
            phase=arguments.phase,
            data=arguments.data,
            weights=arguments.weights,
            settings=tuple(arguments.settings),
            out=arguments.out,
        )
        for sweep in arguments.sweeps
    ]
    for request in requests[1:]:
        checked_plan(request)  # a mistake in the last file must not wait for hours; the first is planned at once
    return max(run_sweep(request, arguments.dry_run, Log()) for request in requests)


def _report(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.report import report
    from keras_bench.rundir import ExperimentDir, experiment_folder

    named = Path(arguments.experiment)
    is_folder = len(named.parts) > 1 and named.is_dir()
    folder = ExperimentDir(named) if is_folder else experiment_folder(arguments.out, str(named), arguments.variant)
    report(folder, arguments.models, arguments.measure, Log())
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.export import export_run
    from keras_bench.jobs.request import job_of_run
    from keras_bench.rundir import RunDir

    changes: dict[str, object] = {"int8": False} if arguments.no_int8 else {}
    if arguments.verify_limit is not None:
        changes["verify_images"] = _at_least_one("--verify-limit", arguments.verify_limit)
    job = job_of_run(RunDir(arguments.run), arguments.data, arguments.exports, changes)
    if arguments.phase and arguments.phase not in job.phases:
        raise UserError(f"--phase: {arguments.run} has {' and '.join(job.phases)}, not {arguments.phase}")
    export_run(job, [arguments.phase] if arguments.phase else job.phases, Log())
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.verify import verify_bundle

    limit = None if arguments.limit is None else _at_least_one("--limit", arguments.limit)
    verify_bundle(arguments.bundle, arguments.data, limit, Log())
    return 0


def _ensemble(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.ensemble import default_name, run_ensemble
    from keras_bench.jobs.request import job_of_run
    from keras_bench.rundir import RunDir

    if len(arguments.runs) < 2:
        raise UserError("expected two finished runs or more, received one")
    jobs = [job_of_run(RunDir(run), arguments.data, arguments.exports, {}) for run in arguments.runs]
    name = _folder_name("--name", arguments.name or default_name(jobs))
    run_ensemble(jobs, name, arguments.fit_weights, not arguments.no_export, Log())
    return 0


def _folder_name(option: str, name: str) -> str:
    if "/" in name or name in ("", ".", ".."):
        raise UserError(f"{option}: expected a folder name without '/', received {name!r}")
    return name


def _at_least_one(option: str, value: int) -> int:
    if value < 1:
        raise UserError(f"{option}: expected a whole number of at least 1, received {value}")
    return value


def _audit(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.audit import AuditRequest, run_audit

    names = ("data", "experiment", "source", "json", "html", "force")
    words = {name: getattr(arguments, name) for name in names}
    return run_audit(AuditRequest(settings=tuple(arguments.settings), **words), Log())


def _cache(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.cache import clear_cache, limit_features, show_cache

    if arguments.features_mb is not None and arguments.features_mb < 0:
        raise UserError(f"--features-mb: expected at least 0, received {arguments.features_mb}")
    if arguments.clear:
        clear_cache(Log())
    elif arguments.features_mb is not None:
        limit_features(arguments.features_mb, Log())
    else:
        show_cache(Log())
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.models import print_models

    print_models(arguments.filters, arguments.sort, Log())
    return 0


def _lr_find(arguments: argparse.Namespace) -> int:
    from keras_bench.console import Log
    from keras_bench.jobs.lr_find import RateRange, find_rate
    from keras_bench.jobs.request import resolve

    span = RateRange(arguments.low, arguments.high, arguments.steps)
    find_rate(resolve(_request(arguments, arguments.model)), span, Log())
    return 0


HANDLERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "suite": _suite,
    "sweep": _sweep,
    "report": _report,
    "export": _export,
    "verify": _verify,
    "ensemble": _ensemble,
    "audit": _audit,
    "models": _models,
    "lr-find": _lr_find,
    "cache": _cache,
}
