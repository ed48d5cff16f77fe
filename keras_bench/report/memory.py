"""What the comparisons of one process take over from each other, so that one more run costs only its own share.

A suite compares its runs after each model. The statistics of a phase and its confusion matrix are then those of the
comparison before, unless one of the phase's files has changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from keras_bench.config.decision import DecisionMetric
from keras_bench.download import digest_file
from keras_bench.phases import Phase
from keras_bench.report.comparison import PhaseView
from keras_bench.runs.folders import RunDir

Key = tuple[object, ...]


@dataclass
class ReportMemory:
    """Results by everything they depend on.

    Attributes:
        phases: the views of phases.
        figures: figures as inline SVG.
    """

    phases: dict[Key, PhaseView] = field(default_factory=dict)
    figures: dict[Key, str] = field(default_factory=dict)

    def phase_view(self, key: Key, compute: Callable[[], PhaseView]) -> PhaseView:
        """Return a phase's view, computed unless it is known."""
        if key not in self.phases:
            self.phases[key] = compute()
        return self.phases[key]

    def figure(self, key: Key, draw: Callable[[], str]) -> str:
        """Return a figure as inline SVG, drawn unless it is known."""
        if key not in self.figures:
            self.figures[key] = draw()
        return self.figures[key]


def phase_key(run: RunDir, phase: Phase, decision: DecisionMetric) -> Key:
    """Return what a phase's view depends on; its resamples follow from the number of images in its predictions."""
    files = [run.result(phase), run.history(phase), *(run.predictions(phase, split) for split in ("val", "test"))]
    return (run.root, phase, decision, *(digest_file(path) if path.is_file() else None for path in files))
