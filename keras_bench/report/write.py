"""Rebuilds tables, figures, model cards and the page of an experiment from its run folders."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

from matplotlib.figure import Figure

from keras_bench.config import load_run_config
from keras_bench.console import Log, table_text
from keras_bench.cost.latency import has_accelerator, measure_latency
from keras_bench.errors import UserError, unknown_name
from keras_bench.evaluation.classes import confusion_order
from keras_bench.explain.records import METHOD_TITLES
from keras_bench.export.records import Verification
from keras_bench.files import save_figure, write_record, write_text
from keras_bench.frames import write_frame
from keras_bench.pages.provenance import Provenance
from keras_bench.pages.svg import inline_svg
from keras_bench.phases import PHASES, Phase
from keras_bench.printable import printable
from keras_bench.report import experiment_figures
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.intact import intact_runs
from keras_bench.report.memory import ReportMemory
from keras_bench.report.model_card import model_card
from keras_bench.report.outlook import FOLLOWS, Outlook
from keras_bench.report.overlays import explanation_grid
from keras_bench.report.page import report_page
from keras_bench.report.pareto import pareto_front
from keras_bench.report.published import published_text
from keras_bench.report.read import read_comparison, refuse_different_tests
from keras_bench.report.run_figures import confusion_matrix, learning_curves
from keras_bench.report.tables import classes_frame, comparison_table, results_frame
from keras_bench.runs.damage import FILES, describe, digests_of, remedy
from keras_bench.runs.folders import ExperimentDir, RunDir, runs_of
from keras_bench.runs.job import Job

SUFFIXES = (".png", ".svg")


def report(folder: ExperimentDir, models: list[str] | None, measure: bool, log: Log) -> None:
    """Rebuild and print the comparison of an experiment.

    Args:
        folder: the experiment's folder.
        models: names of the models to compare; None: all finished ones.
        measure: whether to measure the latency of all of them again first, in turn.
        log: the screen.

    Raises:
        UserError: there is no finished run, or the runs were tested on different images.
    """
    runs = intact_runs(finished_runs(folder, models), log, with_models=measure)
    refuse_different_tests(runs)
    if measure:
        settings = load_run_config(runs[0].config).latency
        measure_latency(runs, settings, any(has_accelerator(run) for run in runs), log, again=True)
    with folder.lock_comparison(log):
        summary = write_report(folder, runs, log)
    log.lines(summary.rstrip("\n"))


def finished_runs(folder: ExperimentDir, models: list[str] | None = None) -> list[RunDir]:
    """Return the finished runs of an experiment.

    Args:
        folder: the experiment's folder.
        models: names of models, to return only their runs; None: all.

    Raises:
        UserError: the folder has no runs or no finished run, or one of the models has no finished run.
    """
    runs = runs_of(folder.root)
    if not runs:
        raise UserError(f"{folder.root} holds no runs; expected {folder.root}/<model>/seed<k>/config.yaml")
    finished = [run for run in runs if run.run.is_file() or run.cost.is_file()]  # cost.json follows run.json
    if not finished:
        run = runs[0]
        raise UserError(f"{folder.root} holds no finished run: {describe(run.run)}; {remedy(run, [run.run])}")
    finished_models = {run.model_name for run in finished}
    for name in models or []:
        if name not in finished_models:
            raise UserError(f"--model: {unknown_name('finished model', name, sorted(finished_models))}")
    return [run for run in finished if not models or run.model_name in models]


def write_report(folder: ExperimentDir, runs: list[RunDir], log: Log, memory: ReportMemory | None = None) -> str:
    """Write results.csv, figures, class tables, model cards, index.html and summary.txt, and return the summary.

    The caller must hold the comparison's lock, so that all files describe the same runs.

    Args:
        folder: the experiment's folder.
        runs: its runs.
        log: shows progress.
        memory: what earlier comparisons of this process computed; None: nothing.

    Raises:
        UserError: the runs were tested on different images.
    """
    memory = memory or ReportMemory()
    comparison = read_comparison(folder, runs, log, memory=memory)
    provenance = Provenance.now()
    folder.comparison.unlink(missing_ok=True)  # its digests are not those of the files written from here on
    folders = {(run.model_name, run.seed): run for run in runs}
    figures = _experiment_figures(comparison)
    with log.progress("report", len(comparison.runs) + 1, "parts") as advance:
        for view in comparison.runs:
            _write_run(folders[view.model, view.seed], comparison, view, provenance)
            advance(1)
        for name, figure in figures.items():
            save_figure(figure, folder.figures / name)
        if comparison.explained:
            titles = comparison.class_titles
            save_figure(explanation_grid(comparison.explained, METHOD_TITLES, titles), folder.figures / "explanations")
        summary = _write_tables_and_page(folder, comparison, figures, provenance, memory)
        advance(1)
    write_record(folder.comparison, {FILES: digests_of(folder.root, _written_files(folder, runs))})
    return summary


def write_report_so_far(
    folder: ExperimentDir, runs: list[RunDir], outlook: Outlook, log: Log, memory: ReportMemory
) -> Comparison:
    """Write results.csv, index.html and summary.txt of the runs that are there, while a suite goes on.

    The files that nobody reads before the end, figures, class tables and model cards, are left to the end: saving
    figures takes most of a report's time. The caller must hold the comparison's lock.

    Args:
        folder: the experiment's folder.
        runs: its finished runs.
        outlook: what the suite will still add; the page and the tables say so.
        log: shows progress.
        memory: what earlier comparisons of this process computed.

    Raises:
        UserError: the runs were tested on different images.
    """
    comparison = read_comparison(folder, runs, log, outlook, memory)
    folder.comparison.unlink(missing_ok=True)
    _write_tables_and_page(folder, comparison, _experiment_figures(comparison), Provenance.now(), memory)
    files = [folder.results, folder.page, folder.summary]
    write_record(folder.comparison, {FILES: digests_of(folder.root, files), FOLLOWS: outlook.to_json(runs)})
    return comparison


def _write_tables_and_page(
    folder: ExperimentDir,
    comparison: Comparison,
    figures: Mapping[str, Figure],
    provenance: Provenance,
    memory: ReportMemory,
) -> str:
    """Write results.csv, index.html and summary.txt, and return the summary."""
    write_frame(folder.results, results_frame(comparison))
    svgs = {name: inline_svg(figure) for name, figure in figures.items()}
    at_top = experiment_figures.accuracy_for_latency(comparison.runs, pareto_front, comparison.decision)
    svgs["accuracy_for_latency"] = inline_svg(at_top)
    for number, view in enumerate(comparison.runs):  # in each run's folder it has class names, too
        key = (comparison.name, view.label, view.final_phase, view.final.confusion.tobytes())
        draw = partial(_confusion, comparison, view, labelled=False)
        svgs[f"confusion_{number}"] = memory.figure(key, lambda draw=draw: inline_svg(draw()))  # type: ignore[misc]
    write_text(folder.page, report_page(comparison, svgs, provenance))
    summary = _summary(folder, comparison)
    write_text(folder.summary, summary)
    return summary


def _written_files(folder: ExperimentDir, runs: list[RunDir]) -> list[Path]:
    """Return the files of a comparison, except comparison.json, which holds their digests."""
    of_runs = [
        path
        for run in runs
        for path in (
            run.model_card,
            *(run.class_report(phase) for phase in PHASES),
            *(
                run.figures / f"{name}{suffix}"
                for name in ("learning_curves", "confusion_matrix")
                for suffix in SUFFIXES
            ),
        )
    ]
    figures = [path for suffix in SUFFIXES for path in sorted(folder.figures.glob(f"[!.]*{suffix}"))]
    return [path for path in (folder.results, folder.page, folder.summary, *figures, *of_runs) if path.is_file()]


def _summary(folder: ExperimentDir, comparison: Comparison) -> str:
    """Return the table, the verdict and the paths of the files, as printed at the end of every run."""
    table = table_text(comparison_table(comparison))
    lines = [table, *comparison.follows, *comparison.verdict, *published_text(comparison), *folder.last_lines()]
    return printable("\n".join(lines) + "\n", newlines=True)


def _write_run(run: RunDir, comparison: Comparison, view: RunView, provenance: Provenance) -> None:
    """Write the report's files in one run's folder: figures, class tables and the model card."""
    histories = {phase: each.history for phase, each in view.phases.items() if each.history is not None}
    if histories:
        save_figure(learning_curves(histories, f"{view.label}, {comparison.name}"), run.figures / "learning_curves")
    else:  # those of an earlier report may show phases that have been trained again
        for suffix in SUFFIXES:
            (run.figures / f"learning_curves{suffix}").unlink(missing_ok=True)
    save_figure(_confusion(comparison, view, labelled=True), run.figures / "confusion_matrix")
    for phase, phase_view in view.phases.items():
        write_frame(run.class_report(phase), classes_frame(phase_view.classes, comparison.class_titles))
    write_text(run.model_card, model_card(comparison, view, provenance))


def _confusion(comparison: Comparison, view: RunView, labelled: bool) -> Figure:
    order = confusion_order(view.final.confusion)
    heading = f"{view.label} {view.final_phase}, test of {comparison.name}"
    return confusion_matrix(view.final.confusion, order, comparison.class_titles, heading, labelled)


def _experiment_figures(comparison: Comparison) -> dict[str, Figure]:
    runs = comparison.runs
    return {
        "learning_curves": experiment_figures.all_learning_curves(runs),
        "accuracy_for_cost": experiment_figures.accuracy_for_cost(runs, pareto_front, comparison.decision),
        "epoch_seconds": experiment_figures.epoch_seconds(runs),
        "reliability": experiment_figures.reliability(runs),
        "coverage": experiment_figures.coverage(runs),
    }


def card_writer(job: Job, log: Log) -> Callable[[Phase, Verification], str]:
    """Return a function from a phase and its bundle's verification to the bundle's MODEL_CARD.md."""

    @cache  # because the statistics of all phases take seconds
    def comparison() -> Comparison:
        return read_comparison(job.experiment_folder, [job.folder], log)

    def write(phase: Phase, verification: Verification) -> str:
        return model_card(comparison(), comparison().runs[0], Provenance.now(), phase, verification)

    return write
