"""What follows from a run's settings and data."""

from typing import Any

from keras_bench.runs.data import Data
from keras_bench.runs.job import Job


def model_spec(job: Job, data: Data) -> Any:
    """Return what decides the graph of a run's model."""
    from keras_bench.models.build import ModelSpec

    return ModelSpec(job.backbone, job.image_size, len(data.index.class_names), job.config.model)


def build_pipeline(job: Job, data: Data) -> Any:
    """Return the tf.data pipeline of a run."""
    from keras_bench.data.pipeline import Pipeline

    return Pipeline(
        data.store,
        job.image_size,
        job.config.training.portion_size,
        len(data.index.class_names),
        job.request.seed,
    )
