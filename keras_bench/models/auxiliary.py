"""InceptionV3's auxiliary classifier: a second softmax halfway up the network, used in training only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras

from keras_bench.models.build import HEAD

if TYPE_CHECKING:
    import tensorflow as tf

PREFIX = f"{HEAD}auxiliary_"  # its layers count as head: they train in every phase
WINDOW = 5  # side of its pooling window and of its second convolution


@keras.saving.register_keras_serializable(package="keras_bench")
class AuxiliaryModel(keras.Model):
    """A functional model with two outputs: the prediction, and the auxiliary one, which adds to the training loss.

    Metrics and the validation loss refer to the first output alone. The constructor is Keras's (inputs, outputs); the
    weight is set afterwards, so that Keras restores a saved model as a functional model.

    Attributes:
        auxiliary_weight: weight of the second output's loss in the training loss.
    """

    auxiliary_weight: float = 0.0

    def compute_loss(
        self,
        x: tf.Tensor | None = None,
        y: tf.Tensor | None = None,
        y_pred: Sequence[tf.Tensor] = (),
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Return the first output's loss plus penalties and, in training, the second's loss times its weight.

        Args:
            x: images, not used.
            y: one-hot labels, float32 (batch, num_classes).
            y_pred: both outputs, float32 (batch, num_classes) each.
            sample_weight: float32 (batch,), e.g. from class weights, for both losses; or None.
            training: whether to add the second loss.
        """
        predicted, auxiliary = y_pred
        loss = super().compute_loss(x, y, predicted, sample_weight, training)
        if not training:
            return loss
        return loss + self.auxiliary_weight * self.loss(y, auxiliary, sample_weight)

    def compute_metrics(
        self, x: tf.Tensor, y: tf.Tensor, y_pred: Sequence[tf.Tensor], sample_weight: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Return the metrics of the first output."""
        return super().compute_metrics(x, y, y_pred[0], sample_weight)

    def get_config(self) -> dict[str, object]:
        """Return the model's configuration, including the auxiliary weight."""
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}

    @classmethod
    def from_config(cls, config: dict[str, object], custom_objects: Mapping[str, type] | None = None) -> AuxiliaryModel:
        """Rebuild the model from the result of `get_config`."""
        config = dict(config)
        weight = config.pop("auxiliary_weight")
        model = super().from_config(config, custom_objects)
        model.auxiliary_weight = weight
        return model


def with_auxiliary(model: keras.Model, layer: str, weight: float, momentum: float | None = None) -> AuxiliaryModel:
    """Return a training model that shares all layers of `model` and adds the auxiliary classifier as second output.

    Szegedy et al. 2015 (arXiv:1512.00567, section 4): a small softmax classifier on the last map of 17×17, with batch
    normalisation, acts as a regulariser. Its shape and initial values are those of torchvision's InceptionAux: 5×5
    average pooling with stride 3, 1×1 convolution to 128 channels, 5×5 convolution to 768, each with BatchNorm and
    ReLU, global average pooling, dense softmax (here in float32 whatever the precision policy).

    Args:
        model: flat functional model with one output, float32 (batch, num_classes), rows summing to 1.
        layer: name of the layer whose output, (batch, height, width, channels), feeds the classifier.
        weight: weight of the classifier's loss in the training loss.
        momentum: momentum of its BatchNorm layers; None: Keras's 0.99. Their moving statistics are never used.
    """
    features = _output_of(model, layer)
    x = keras.layers.AveragePooling2D(WINDOW, strides=3, padding=_padding(features), name=f"{PREFIX}pool")(features)
    x = _convolution_norm_relu(x, 128, 1, 0.1, momentum, f"{PREFIX}1")
    x = _convolution_norm_relu(x, 768, WINDOW, 0.01, momentum, f"{PREFIX}2")
    x = keras.layers.GlobalAveragePooling2D(name=f"{PREFIX}global_pool")(x)
    second = keras.layers.Dense(
        model.output_shape[-1],
        activation="softmax",
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.001),
        dtype="float32",
        name=f"{PREFIX}probabilities",
    )(x)
    training_model = AuxiliaryModel(model.input, [model.output, second], name=model.name)
    training_model.auxiliary_weight = weight
    return training_model


def trains_before(model: keras.Model, layer: str) -> bool:
    """Return whether any weight up to a layer's output is trainable; else an auxiliary loss there has no effect."""
    return bool(keras.Model(model.input, _output_of(model, layer)).trainable_weights)


def _output_of(model: keras.Model, layer: str) -> keras.KerasTensor:
    """Return a layer's output within `model`; `layer.output` belongs to the first model that used the layer."""
    nodes = (node for level in model._nodes_by_depth.values() for node in level)
    return next(node.outputs[0] for node in nodes if node.operation.name == layer)


def _convolution_norm_relu(
    x: keras.KerasTensor, filters: int, kernel: int, deviation: float, momentum: float | None, name: str
) -> keras.KerasTensor:
    """Apply convolution, BatchNorm and ReLU; no bias, since BatchNorm adds one."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        padding=_padding(x),
        use_bias=False,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=deviation),
        name=f"{name}_conv",
    )(x)
    x = keras.layers.BatchNormalization(momentum=momentum or 0.99, epsilon=0.001, name=f"{name}_bn")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _padding(x: keras.KerasTensor) -> str:
    """Return "valid", as used at 299 pixels, or "same" if the feature map is too small for a 5×5 window.

    InceptionV3's map is 17×17 at 299 pixels and 3×3 at 75; average pooling ignores the padding.
    """
    return "valid" if min(x.shape[1:3]) >= WINDOW else "same"
