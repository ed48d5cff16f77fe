"""Optimizers and schedules: their settings arrive, and their steps are those worked out by hand."""

from typing import get_args

import keras
import numpy as np
import pytest

from keras_bench.config import PhaseConfig, TrainingConfig
from keras_bench.training.optimizers import OPTIMIZERS, build_optimizer, build_schedule, scheduled_rate


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
        ("rmsprop", keras.optimizers.RMSprop),
        ("lion", keras.optimizers.Lion),
    ],
)
def test_each_optimizer_takes_its_settings(name, kind):
    optimizer = build_optimizer(PhaseConfig(optimizer=name, learning_rate=0.25, momentum=0.8, weight_decay=0.01))
    assert type(optimizer) is kind
    assert float(optimizer.learning_rate.value) == 0.25
    assert optimizer.weight_decay == 0.01
    assert optimizer.gradient_accumulation_steps is None
    assert build_optimizer(PhaseConfig(optimizer=name), accumulation_steps=4).gradient_accumulation_steps == 4
    if name in ("sgd", "rmsprop"):
        assert optimizer.momentum == 0.8
    if name == "adam":
        assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)


def test_every_optimizer_of_the_configuration_can_be_built_and_no_other():
    assert set(OPTIMIZERS) == set(get_args(PhaseConfig.model_fields["optimizer"].annotation))
    assert build_optimizer(PhaseConfig(optimizer="adamw")).weight_decay == 0
    assert build_optimizer(PhaseConfig(optimizer="adam")).weight_decay is None
    unknown = PhaseConfig.model_construct(optimizer="adagrad", learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(ValueError, match=f"optimizer: expected one of {', '.join(OPTIMIZERS)}, received adagrad"):
        build_optimizer(unknown)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The gradient is always 1. RMSProp: the mean square v is 0.1, 0.19, 0.271, and a step is 0.01 / √v.
        ({"optimizer": "rmsprop"}, 0.01 * (1 / 0.1**0.5 + 1 / 0.19**0.5 + 1 / 0.271**0.5)),
        # SGD with momentum 0.9: steps of 1, 1.9 and 2.71 learning rates; without momentum, of one each.
        ({"optimizer": "sgd"}, 0.01 * (1 + 1.9 + 2.71)),
        ({"optimizer": "sgd", "momentum": 0.0}, 0.03),
        ({"optimizer": "sgd", "momentum": 0.5}, 0.01 * (1 + 1.5 + 1.75)),
    ],
)
def test_rmsprop_is_plain_and_sgd_has_momentum_unless_it_is_set(settings, expected):
    optimizer = build_optimizer(PhaseConfig(learning_rate=0.01, **settings))
    weight = keras.Variable(np.zeros(1, np.float32))
    for _ in range(3):
        optimizer.apply([keras.ops.ones(1)], [weight])
    assert -float(weight.value[0]) == pytest.approx(expected, rel=1e-5)


def test_lion_steps_by_the_sign_of_the_interpolated_momentum_with_decoupled_weight_decay():
    """Chen et al., arXiv:2302.06675, algorithm 2, by hand with rate 0.1, decay 0.5, β 0.9 and 0.99."""
    optimizer = build_optimizer(PhaseConfig(optimizer="lion", learning_rate=0.1, weight_decay=0.5))
    weights = keras.Variable(np.array([1, -2], np.float32))
    optimizer.apply([keras.ops.array([3.0, -0.5])], [weights])
    # No momentum yet, so the signs are the gradient's: 1 - 0.1·(1 + 0.5·1) and -2 - 0.1·(-1 + 0.5·-2).
    np.testing.assert_allclose(weights.numpy(), [0.85, -1.8], rtol=1e-6)
    optimizer.apply([keras.ops.array([-0.2, 0.4])], [weights])
    # Momentum 0.03 and -0.005: 0.9·0.03 - 0.1·0.2 is positive against the gradient, 0.1·0.4 - 0.9·0.005 with it.
    np.testing.assert_allclose(weights.numpy(), [0.85 - 0.1 * (1 + 0.425), -1.8 - 0.1 * (1 - 0.9)], rtol=1e-6)


def test_cosine_falls_from_the_start_to_zero_over_the_epochs():
    config = PhaseConfig(learning_rate=0.2, learning_rate_schedule="cosine", epochs=4)
    assert [scheduled_rate(config, epoch) for epoch in (0, 2, 4)] == pytest.approx([0.2, 0.1, 0.0])


def test_step_multiplies_every_few_epochs():
    config = PhaseConfig(learning_rate=1.0, learning_rate_schedule="step", step_epochs=3, step_factor=0.5)
    assert [scheduled_rate(config, epoch) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_one_key_chooses_the_schedule():
    training = TrainingConfig(early_stopping_monitor="val_top1")
    plateau = build_schedule(PhaseConfig(plateau_factor=0.3, plateau_patience=4), training)
    assert (plateau.monitor, plateau.factor, plateau.patience, plateau.mode) == ("val_top1", 0.3, 4, "max")
    assert build_schedule(PhaseConfig(learning_rate_schedule="constant"), training) is None
    cosine = build_schedule(PhaseConfig(learning_rate_schedule="cosine"), training)
    assert isinstance(cosine, keras.callbacks.LearningRateScheduler)
