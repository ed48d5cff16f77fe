"""Frozen, validated configuration: YAML in, YAML out, did-you-mean on the way."""

from keras_bench.config.dump import describe, to_yaml
from keras_bench.config.load import Experiment, Layer, load_experiment, load_run_config, parse_setting
from keras_bench.config.schema import (
    AugmentationConfig,
    Config,
    DatasetConfig,
    FineTuneConfig,
    ModelConfig,
    PhaseConfig,
    TrainingConfig,
)

__all__ = [
    "AugmentationConfig",
    "Config",
    "DatasetConfig",
    "Experiment",
    "FineTuneConfig",
    "Layer",
    "ModelConfig",
    "PhaseConfig",
    "TrainingConfig",
    "describe",
    "load_experiment",
    "load_run_config",
    "parse_setting",
    "to_yaml",
]
