"""The auxiliary classifier: its share of the loss computed by hand, and no trace of it outside training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.models.auxiliary import PREFIX, trains_before, with_auxiliary
from keras_bench.models.build import ModelSpec, backbone_layers, build_model
from keras_bench.models.phases import count_parameters, set_phase

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (6, 8, 8, 3)).astype(np.float32)
LABELS = np.eye(4, dtype=np.float32)[np.arange(6) % 4]
SMOOTHING = 0.1


def small_model():
    """Three convolutions in sequence; the second has an L2 penalty and feeds the branch."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="before")(image)
    x = keras.layers.Conv2D(5, 1, kernel_regularizer=keras.regularizers.L2(0.5), name="branch")(x)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="after")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", name="head_probabilities")(x), name="small")


def compiled(weight=0.4):
    model = small_model()
    training_model = with_auxiliary(model, "branch", weight)
    training_model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.CategoricalCrossentropy(label_smoothing=SMOOTHING),
        metrics=[
            keras.metrics.CategoricalCrossentropy(name="cross_entropy"),
            keras.metrics.CategoricalAccuracy(name="top1"),
        ],
        jit_compile=False,
    )
    return model, training_model


def cross_entropies(probabilities, smoothing=SMOOTHING):
    """Per image, with NumPy; Keras clips probabilities at 1e-7."""
    targets = LABELS * (1 - smoothing) + smoothing / 4
    return -(targets * np.log(np.clip(probabilities, 1e-7, 1 - 1e-7))).sum(axis=1)


def test_the_training_loss_has_the_weighted_second_loss_and_the_validation_loss_has_not():
    model, training_model = compiled()
    training_model.get_layer(f"{PREFIX}probabilities").kernel.assign(RNG.normal(0, 0.03, (768, 4)))
    first, second = (np.asarray(output) for output in training_model(IMAGES, training=True))
    np.testing.assert_allclose(first, model(IMAGES), atol=1e-6)
    penalty = 0.5 * (np.asarray(model.get_layer("branch").kernel) ** 2).sum()
    expected = cross_entropies(first).mean() + penalty
    second_loss = cross_entropies(second).mean()
    assert second_loss > 1
    history = training_model.fit(IMAGES, LABELS, batch_size=6, validation_data=(IMAGES, LABELS), verbose=0).history
    assert history["loss"][0] == pytest.approx(expected + 0.4 * second_loss, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["cross_entropy"][0] == pytest.approx(cross_entropies(first, 0).mean(), rel=1e-4)
    assert history["val_top1"][0] == pytest.approx((first.argmax(axis=1) == LABELS.argmax(axis=1)).mean())
    assert set(history) == {f"{part}{name}" for part in ("", "val_") for name in ("loss", "cross_entropy", "top1")}


def test_class_weights_count_in_both_losses():
    _, training_model = compiled()
    outputs = [np.asarray(output) for output in training_model(IMAGES, training=True)]
    weights = {0: 3.0, 1: 0.5, 2: 1.0, 3: 0.0}
    image_weights = np.array([weights[label] for label in LABELS.argmax(axis=1)])
    penalty = float(sum(training_model.losses))
    losses = [(image_weights * cross_entropies(output)).mean() for output in outputs]
    expected = losses[0] + 0.4 * losses[1]
    loss = training_model.fit(IMAGES, LABELS, batch_size=6, class_weight=weights, verbose=0).history["loss"][0]
    assert loss == pytest.approx(expected + penalty, rel=1e-4)


def test_the_second_loss_has_gradients_before_the_branch_and_none_after_it():
    _, training_model = compiled()
    with tf.GradientTape() as tape:
        outputs = training_model(IMAGES, training=True)
        with_it, without = (
            training_model.compute_loss(y=LABELS, y_pred=outputs, training=mode) for mode in (True, False)
        )
        share = with_it - without
    gradients = tape.gradient(share, [weight.value for weight in training_model.trainable_weights])
    largest = {}
    for weight, gradient in zip(training_model.trainable_weights, gradients, strict=True):
        layer = weight.path.split("/")[0]
        largest[layer] = max(largest.get(layer, 0), 0 if gradient is None else float(np.abs(gradient).max()))
    assert largest["before"] > 1e-6
    assert largest["branch"] > 1e-6
    assert largest[f"{PREFIX}probabilities"] > 1e-3
    assert largest["after"] == largest["head_probabilities"] == 0


def test_weights_saved_without_the_classifier_are_those_of_the_plain_model(tmp_path):
    model, training_model = compiled()
    training_model.compile(keras.optimizers.SGD(0.1), training_model.loss, jit_compile=False)
    start = np.asarray(model.get_layer("before").kernel)
    training_model.fit(IMAGES, LABELS, batch_size=3, verbose=0)
    assert np.abs(np.asarray(model.get_layer("before").kernel) - start).max() > 1e-4
    model.save_weights(tmp_path / "best.weights.h5")
    other = small_model()
    other.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(other(IMAGES), model(IMAGES))
    np.testing.assert_allclose(other(IMAGES), training_model(IMAGES, training=False)[0], atol=1e-6)
    model.save(tmp_path / "model.keras")
    assert not [layer for layer in keras.models.load_model(tmp_path / "model.keras").layers if PREFIX in layer.name]


def test_a_saved_state_keeps_the_weight_the_optimizer_and_both_losses(tmp_path):
    _, training_model = compiled(weight=0.7)
    training_model.compile(keras.optimizers.Adam(0.01), training_model.loss, metrics=["accuracy"], jit_compile=False)
    training_model.train_on_batch(IMAGES, LABELS)
    training_model.save(tmp_path / "state.keras")
    again = keras.models.load_model(tmp_path / "state.keras", safe_mode=True)
    assert type(again) is type(training_model)
    assert again.auxiliary_weight == 0.7
    assert int(again.optimizer.iterations) == 1
    losses = [
        float(model.compute_loss(y=LABELS, y_pred=model(IMAGES, training=True), training=True))
        for model in (training_model, again)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    again.save_weights(tmp_path / "again.weights.h5")
    training_model.get_layer(f"{PREFIX}1_conv").kernel.assign(np.zeros((1, 1, 5, 128)))
    training_model.load_weights(tmp_path / "again.weights.h5")
    np.testing.assert_allclose(training_model(IMAGES)[1], again(IMAGES)[1], atol=1e-6)


def test_the_classifier_is_useful_only_if_a_layer_before_it_trains():
    model = small_model()
    assert trains_before(model, "branch")
    for name in ("before", "branch"):
        model.get_layer(name).trainable = False
    assert not trains_before(model, "branch")
    assert trains_before(model, "after")
    # The second half alone, as trained on cached features: the branch is found in this model's graph.
    tail = keras.Model(model.get_layer("branch").output, model.output)
    training_model = with_auxiliary(tail, "after", 0.4)
    assert [output.shape for output in training_model(RNG.normal(size=(2, 6, 6, 5)))] == [(2, 4), (2, 4)]


@pytest.mark.parametrize(
    ("side", "map_side", "pooled", "convolved"),
    [(75, 3, 1, 1), pytest.param(224, 12, 3, 3, marks=pytest.mark.slow), (299, 17, 5, 1)],
)
def test_in_inception_its_shape_follows_the_feature_map(side, map_side, pooled, convolved):
    row = BACKBONES["InceptionV3"]
    model = build_model(ModelSpec(row, side, 1000, ModelConfig(hidden_units=0)))
    set_phase(model, row, "ft", 3)
    assert not trains_before(model, row.auxiliary_layer)
    set_phase(model, row, "ft", 4)
    assert trains_before(model, row.auxiliary_layer)
    trained = {layer.name for layer in model.layers if layer.trainable}
    training_model = with_auxiliary(model, row.auxiliary_layer, 0.4, 0.9)
    set_phase(training_model, row, "ft", 4)
    auxiliary = [layer for layer in training_model.layers if layer.name.startswith(PREFIX)]
    assert {layer.name for layer in training_model.layers if layer.trainable} == trained | {
        layer.name for layer in auxiliary
    }
    assert [layer.name for layer in backbone_layers(training_model)] == [layer.name for layer in backbone_layers(model)]
    shape = {layer.name.removeprefix(PREFIX): layer.output.shape[1:] for layer in auxiliary}
    assert training_model.get_layer("mixed7").output.shape == (None, map_side, map_side, 768)
    assert shape["pool"] == (pooled, pooled, 768)
    assert shape["1_relu"] == (pooled, pooled, 128)
    assert shape["2_relu"] == (convolved, convolved, 768)
    assert shape["probabilities"] == (1000,)
    # torchvision's inception_v3 has 27,161,264 parameters with the auxiliary classifier and 23,834,568 without.
    trainable = sum(int(np.prod(weight.shape)) for layer in auxiliary for weight in layer.trainable_weights)
    assert trainable == 27_161_264 - 23_834_568
    assert {training_model.get_layer(f"{PREFIX}{i}_bn").momentum for i in (1, 2)} == {0.9}
    assert count_parameters(model)[0] == 21_802_784 + 2048 * 1000 + 1000
