"""Sweeps whose runs are made up instead of trained, for tests of how a sweep handles its runs."""

import io

from rich.console import Console

from keras_bench.console import Log
from keras_bench.cost.cost_file import file_identity
from keras_bench.files import write_bytes, write_json, write_record
from keras_bench.runs.damage import FILES
from keras_bench.runs.fingerprint import phase_inputs
from keras_bench.sweep.plan import SweepRequest
from keras_bench.sweep.run import run_sweep
from keras_bench.workflow.shown_images import MADE_OF, made_of
from tests.made import make_training

DATA = "f" * 32  # the fingerprint of made-up data
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)  # an intact model.keras, as far as anyone looks
GRID = "grid: {model.dropout: [0.2, 0.4], training.batch_size: [16, 32]}\n"


def study(tmp_path, text=GRID, base="experiment: digits\nmodels: [MobileNet]\nphase: tl\nset: {model.weights: none}\n"):
    """Write a sweep file and return its path."""
    path = tmp_path / "study.yaml"
    path.write_text(base + text)
    return str(path)


def request(tmp_path, text=GRID, **options):
    """Return the request of a sweep whose runs go below `tmp_path`."""
    return SweepRequest(study(tmp_path, text), out=tmp_path / "runs", **options)


class FakeRunner:
    """Makes up a finished run for each job.

    Attributes:
        calls: (dropout, batch size, model, seed) of each job so far.
        fails: dropouts whose jobs fail.
        stops_at: the number of the call, from 1, that is interrupted as by Ctrl-C.
        code: the exit code of jobs that fail.
    """

    def __init__(self, fails=(), stops_at=None, code=1):
        self.calls, self.fails, self.stops_at, self.code = [], fails, stops_at, code

    def __call__(self, job):
        dropout = job.config.model.dropout
        self.calls.append((dropout, job.config.training.batch_size, job.backbone.name, job.request.seed))
        if self.stops_at == len(self.calls):
            raise KeyboardInterrupt
        if dropout in self.fails:
            return self.code
        inputs = {phase: phase_inputs(job, phase, DATA, "none") for phase in job.phases}
        make_training(job.folder, [(phase, 4 - 3 * dropout) for phase in job.phases], inputs=inputs)
        final = job.phases[-1]
        write_json(job.folder.run, {"phases": list(job.phases), "final_phase": final})
        write_bytes(job.folder.model(final), EMPTY_ZIP)
        write_record(job.folder.shown_images, {MADE_OF: made_of(job.folder), FILES: {}})
        write_json(job.folder.cost, file_identity(job.folder, final))
        write_json(job.folder.timing, {"seconds": 100.0 * job.config.training.batch_size / 16})
        return 0


def sweep(request, runner, dry_run=False):
    """Run a sweep and return its exit code and its output."""
    screen = io.StringIO()
    code = run_sweep(request, dry_run, Log(Console(file=screen, width=250)), runner)
    return code, screen.getvalue()
