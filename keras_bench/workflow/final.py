"""The end of training: chooses the final phase on val."""

from collections.abc import Sequence

from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.runs.results import best_phase
from keras_bench.runs.run import Run


def choose_final_phase(run: Run, phases: Sequence[Phase]) -> None:
    """Choose the final phase on val among those of some phases that are finished, and write run.json."""
    job, log = run.job, run.log
    results = job.folder.read_results(phases)
    decision = job.config.training.decision
    final = best_phase(results, decision)
    write_record(
        job.folder.run,
        {
            "experiment": job.config.name,
            "model": job.backbone.name,
            "seed": job.request.seed,
            "phases": list(results),
            "final_phase": final,
            "chosen_by": f"val {decision}",
        },
    )
    choice = f", chosen on val{decision.clause} among {' and '.join(results)}" if len(results) > 1 else ""
    log.line(f"final phase: {final}{choice}")
