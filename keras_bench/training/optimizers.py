"""Optimizers and learning-rate schedules, each behind one key."""

import math

import keras

from keras_bench.config import PhaseConfig, TrainingConfig
from keras_bench.training.monitors import mode_of


def build_optimizer(config: PhaseConfig, accumulation_steps: int = 1) -> keras.optimizers.Optimizer:
    """Return a new optimizer at the phase's starting learning rate.

    Gradients of several portions are averaged before the weights move, decay once and the optimizer's own counters
    advance: the step of the whole batch, where losses are means over images and portions are equally large. What
    stays different: BatchNorm takes the statistics of a portion; dropout and augmentation draw anew for each. The
    portions that an epoch leaves over wait for the first ones of the next, and are dropped at the end of the phase; a
    last portion of fewer images counts as much as a whole one. In float16, a portion whose gradients overflow is left
    out and the next one takes its place.

    Args:
        config: of the phase.
        accumulation_steps: portions a step.
    """
    rate, decay = config.learning_rate, config.weight_decay or None
    portions = accumulation_steps if accumulation_steps > 1 else None
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay, gradient_accumulation_steps=portions)
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, gradient_accumulation_steps=portions)
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, config.momentum, weight_decay=decay, gradient_accumulation_steps=portions)
    return keras.optimizers.RMSprop(
        rate, momentum=config.momentum, weight_decay=decay, gradient_accumulation_steps=portions
    )


def build_schedule(config: PhaseConfig, training: TrainingConfig) -> keras.callbacks.Callback | None:
    """Return the callback that changes the learning rate between epochs, or None for a constant one."""
    if config.learning_rate_schedule == "plateau":
        monitor = training.watched_by_stopping
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
