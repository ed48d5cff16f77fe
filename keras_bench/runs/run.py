"""A run in progress: its job, images, initial weights and devices, and what is derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from keras_bench.phases import Phase
from keras_bench.runs.fingerprint import phase_inputs
from keras_bench.runs.weights import require_final_phase

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
    """A run in progress.

    Attributes:
        job: the resolved request.
        data: the images, decoded and split.
        log: the screen and run.log.
        initial_weights: the backbone's initial weights; None for a finished run, which does not train.
        devices: names of the accelerators; empty if there are none.
    """

    job: Job
    data: Data
    log: Log
    initial_weights: InitialWeights | None = None
    devices: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.job.config

    @property
    def folder(self) -> RunDir:
        """The run's folder."""
        return self.job.folder

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases to train, in order."""
        return self.job.phases

    @property
    def weights(self) -> InitialWeights:
        """The backbone's initial weights."""
        assert self.initial_weights is not None, "only a run that trains has initial weights"
        return self.initial_weights

    @cached_property
    def pipeline(self) -> Pipeline:
        """The run's tf.data pipeline."""
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
        """The specification of the run's model."""
        from keras_bench.models.build import ModelSpec

        return ModelSpec(self.job.backbone, self.job.image_size, len(self.data.index.class_names), self.config.model)

    def inputs(self, phase: Phase) -> dict[str, object]:
        """Return every setting and fingerprint that the result of a phase depends on, flat."""
        return phase_inputs(self.job, phase, self.data.fingerprint, self.weights.fingerprint)

    @property
    def is_finished(self) -> bool:
        """Whether training is finished."""
        return self.folder.run.is_file()

    @property
    def final_phase(self) -> Phase:
        """The phase chosen on val.

        Raises:
            RunError: the run is not finished.
        """
        return require_final_phase(self.folder)
