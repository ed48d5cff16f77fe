"""Optimizers and learning-rate schedules, each chosen by one configuration key."""

import math
from collections.abc import Callable, Mapping

import keras

from keras_bench.config import PhaseConfig, TrainingConfig
from keras_bench.training.monitors import mode_of

# Functions from the phase's settings, and the arguments that all optimizers share, to a new optimizer. AdamW alone
# does not accept None as its weight decay.
OPTIMIZERS: Mapping[str, Callable[[PhaseConfig, dict[str, float | None]], keras.optimizers.Optimizer]] = {
    "adam": lambda _, shared: keras.optimizers.Adam(**shared),
    "adamw": lambda config, shared: keras.optimizers.AdamW(**{**shared, "weight_decay": config.weight_decay}),
    "sgd": lambda config, shared: keras.optimizers.SGD(momentum=config.resolved_momentum, **shared),
    "rmsprop": lambda config, shared: keras.optimizers.RMSprop(momentum=config.resolved_momentum, **shared),
    "lion": lambda _, shared: keras.optimizers.Lion(**shared),  # Chen et al., arXiv:2302.06675
}


def build_optimizer(config: PhaseConfig, accumulation_steps: int = 1) -> keras.optimizers.Optimizer:
    """Return a new optimizer at the phase's initial learning rate.

    The gradients of several portions are averaged before one step updates the weights, applies weight decay and
    advances the optimizer's counters. This equals the step of the whole batch if losses are means over images and all
    portions are of the same size. Differences remain: BatchNorm uses the statistics of a portion, and dropout and
    augmentation draw anew for each. Portions left over at the end of an epoch are combined with the first ones of the
    next epoch, and dropped at the end of the phase; a smaller last portion counts as much as a full one. In float16, a
    portion whose gradients overflow is skipped and the next one takes its place.

    Args:
        config: the phase's settings.
        accumulation_steps: portions per step.

    Raises:
        ValueError: there is no such optimizer.
    """
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, received {config.optimizer}")
    shared = {
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay or None,
        "gradient_accumulation_steps": accumulation_steps if accumulation_steps > 1 else None,
    }
    return OPTIMIZERS[config.optimizer](config, shared)


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
    """Return the learning rate in a 0-based epoch of the cosine or step schedule.

    cosine: rate · (1 + cos(π · epoch / epochs)) / 2 (Loshchilov and Hutter, arXiv:1608.03983, one cycle, no
    restart). step: rate · factor^⌊epoch / step_epochs⌋.
    """
    if config.learning_rate_schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    return config.learning_rate * config.step_factor ** (epoch // config.step_epochs)
