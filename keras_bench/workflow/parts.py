"""The post-stage of finished runs: what is counted, explained and timed on them, each part once."""

from keras_bench.console import Log
from keras_bench.cost.latency import has_accelerator, latency_finished, measure_latency
from keras_bench.cost.measure import cost_finished, measure_cost
from keras_bench.explain.run import explain_finished, explain_run
from keras_bench.export.places import export_finished
from keras_bench.runs.data import Data
from keras_bench.runs.job import Job


def missing_parts(job: Job) -> list[str]:
    """Return which parts of a run's own post-stage are still to be done; needs no TensorFlow."""
    parts = [] if cost_finished(job) else ["cost"]
    parts += [] if not job.config.explain.enabled or explain_finished(job) else ["explanations"]
    exported = not job.config.export.enabled or all(export_finished(job, phase) for phase in job.phases)
    return parts + ([] if exported else ["export"])


def finish_parts(job: Job, data: Data, log: Log) -> None:
    """Keep thumbnails, count what the final model costs, explain its answers and export, unless that is done.

    Raises:
        ExportError: a bundle could not be made; everything else is done.
    """
    from keras_bench.workflow.final import keep_thumbnails

    missing = missing_parts(job)
    keep_thumbnails(job, data)
    if "cost" in missing:
        with log.timed("counting operations"):
            measure_cost(job)
    if "explanations" in missing:
        with log.timed("explanations"):
            explain_run(job, data, log)
    if "export" in missing:
        from keras_bench.export.phases import export_phases
        from keras_bench.report.write import card_writer

        with log.timed("export"):
            export_phases(job, data, job.phases, card_writer(job, log), log)


def time_models(jobs: list[Job], log: Log) -> None:
    """Measure the latency of finished runs in turn, unless that is done; every figure in a process of its own."""
    settings = jobs[0].config.latency
    runs = [job.run for job in jobs if job.run.run.is_file()]
    if settings.enabled and runs and not latency_finished(runs, settings):
        measure_latency(runs, settings, any(has_accelerator(run) for run in runs), log)
