"""Gathers the finished runs of an experiment into one table, results.csv and the next thing to do."""

from pathlib import Path

from keras_bench.console import Log
from keras_bench.jobs.request import Job
from keras_bench.reporting.comparison import Row, comparison_table, results_csv
from keras_bench.rundir import PHASE_ORDER, RunDir, experiment_folder, list_runs, write_text


def collect_rows(out: Path, experiment: str, variant: str | None) -> list[Row]:
    """Return every finished phase of every finished run of an experiment."""
    rows = []
    for model, seed in list_runs(out, experiment, variant):
        run = RunDir(out, experiment, model, seed, variant)
        content = run.read_run()
        if content is None:
            continue
        for phase in PHASE_ORDER:
            result = run.read_result(phase)
            if result is not None:
                rows.append(Row(model, seed, result, phase == content["final_phase"]))
    return rows


def write_comparison(job: Job) -> list[Row]:
    """Write results.csv, the comparison of the experiment's finished runs, and return its rows."""
    out, experiment, variant = job.request.out, job.config.name, job.request.variant
    rows = collect_rows(out, experiment, variant)
    write_text(experiment_folder(out, experiment, variant) / "results.csv", results_csv(rows))
    return rows


def print_comparison(job: Job, log: Log) -> None:
    """Print the table of the experiment's finished runs and say where everything lies."""
    rows = write_comparison(job)
    folder = experiment_folder(job.request.out, job.config.name, job.request.variant)
    if rows:
        log.table(comparison_table(rows, folder.name))
        log.line(f"table:   {folder / 'results.csv'}")
        log.line(f"figures: {folder}/<model>/seed<k>/figures/*.png")
