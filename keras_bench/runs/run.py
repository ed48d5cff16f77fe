"""One run at work: what was asked, its images, its weights and devices, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keras_bench.phases import Phase
from keras_bench.runs.fingerprint import phase_inputs
from keras_bench.runs.weights import finished_phase

if TYPE_CHECKING:
    from keras_bench.config import Config
    from keras_bench.console import Log
    from keras_bench.data.pipeline import Pipeline
    from keras_bench.models.build import ModelSpec
    from keras_bench.runs.data import Data
    from keras_bench.runs.folders import RunDir
    from keras_bench.runs.job import Job
    from keras_bench.runs.weights import InitialWeights


@dataclass(frozen=True)
class Run:
    """One run at work.

    Attributes:
        job: what was asked, resolved.
        data: its images, decoded and split.
        log: the screen and run.log.
        initial_weights: what its backbone starts from; None for a run that is finished, and trains no more.
        devices: names of the accelerators; none on a machine without one.
    """

    job: Job
    data: Data
    log: Log
    initial_weights: InitialWeights | None = None
    devices: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """Its configuration."""
        return self.job.config

    @property
    def folder(self) -> RunDir:
        """Where it goes."""
        return self.job.folder

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What it trains, in order."""
        return self.job.phases

    @property
    def weights(self) -> InitialWeights:
        """What its backbone starts from."""
        assert self.initial_weights is not None, "only a run that trains has initial weights"
        return self.initial_weights

    @cached_property
    def pipeline(self) -> Pipeline:
        """Its tf.data pipeline."""
        from keras_bench.data.pipeline import Pipeline

        return Pipeline(
            self.data.store,
            self.job.image_size,
            self.config.training.portion_size,
            len(self.data.index.class_names),
            self.job.request.seed,
        )

    @property
    def model_spec(self) -> ModelSpec:
        """What decides the graph of its model."""
        from keras_bench.models.build import ModelSpec

        return ModelSpec(self.job.backbone, self.job.image_size, len(self.data.index.class_names), self.config.model)

    def inputs(self, phase: Phase) -> dict[str, Any]:
        """Return every setting and fingerprint that the result of a phase depends on, flat."""
        return phase_inputs(self.job, phase, self.data.fingerprint, self.weights.fingerprint)

    @property
    def is_finished(self) -> bool:
        """Whether its training is finished."""
        return self.folder.run.is_file()

    @property
    def final_phase(self) -> Phase:
        """The phase that was chosen on val.

        Raises:
            RunError: it is not finished.
        """
        return finished_phase(self.folder)
