"""Optimizers and learning-rate schedules, each behind one key."""

import math

import keras

from keras_bench.config import PhaseConfig, TrainingConfig
from keras_bench.training.monitors import mode_of


def build_optimizer(config: PhaseConfig) -> keras.optimizers.Optimizer:
    """Return a new optimizer at the phase's starting learning rate."""
    rate, decay = config.learning_rate, config.weight_decay or None
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay)
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum, weight_decay=decay)
    return keras.optimizers.RMSprop(rate, momentum=config.momentum, weight_decay=decay)


def build_schedule(config: PhaseConfig, training: TrainingConfig) -> keras.callbacks.Callback | None:
    """Return the callback that changes the learning rate between epochs, or None for a constant one."""
    if config.learning_rate_schedule == "plateau":
        monitor = training.early_stopping_monitor
        return keras.callbacks.ReduceLROnPlateau(
            monitor, factor=config.plateau_factor, patience=config.plateau_patience, mode=mode_of(monitor)
        )
    if config.learning_rate_schedule == "constant":
        return None
    return keras.callbacks.LearningRateScheduler(lambda epoch, _: scheduled_rate(config, epoch))


def scheduled_rate(config: PhaseConfig, epoch: int) -> float:
    """Return the learning rate of a 0-based epoch under the cosine or step schedule.

    cosine: rate · (1 + cos(π · epoch / epochs)) / 2 (Loshchilov and Hutter, arXiv:1608.03983, one cycle, no
    restart). step: rate · factor^⌊epoch / step_epochs⌋.
    """
    if config.learning_rate_schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    return config.learning_rate * config.step_factor ** (epoch // config.step_epochs)
