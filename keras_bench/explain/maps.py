"""Explanation maps of a model's predictions: Saliency, SmoothGrad, Grad-CAM and Grad-CAM++."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_bench.config.schema import ExplainConfig
from keras_bench.evaluation.predict import BATCHES_AT_ONCE
from keras_bench.explain.class_activation import gradcam, gradcam_plus_plus
from keras_bench.parallel import map_in_order

# A gradient needs the activations of all layers at once, so large images come in small batches.
PIXELS_PER_BATCH = 2**18  # 16 images of 128 pixels, 5 of 224
LARGEST_BATCH = 32
NOISE_IMAGES = 8  # images whose noise is drawn together; another number would give other SmoothGrad maps

Advance = Callable[[int], None]


def linear_view(model: keras.Model) -> keras.Model:
    """Return the model without its softmax; it shares all layers but the last, whose weights are copied.

    Maps explain the score before the softmax: a probability near 1 has almost no gradient. The model is not cloned,
    since a clone of EfficientNet loses the constants of its normalisation.

    Args:
        model: flat functional model that ends in a Dense layer with softmax.
    """
    last = model.layers[-1]
    linear = keras.layers.Dense(last.units, dtype="float32", name=f"{last.name}_linear")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.input, scores)


class Explainer:
    """A model with a function that computes its gradients and class-activation maps in one pass.

    Tracing the function takes as long as the maps of many images. It is traced once: it accepts batches of any size,
    and reads the weights that the model has when it is called.

    Args:
        model: flat functional float32 model that ends in a Dense layer with softmax.
        cam_layer: name of the layer or operation whose activations Grad-CAM and Grad-CAM++ use.
    """

    def __init__(self, model: keras.Model, cam_layer: str) -> None:
        self._model, self._view = model, linear_view(model)
        signature = [tf.TensorSpec(model.input_shape, tf.float32), tf.TensorSpec((None,), tf.int64)]
        self.explain = tf.function(_pass_through(self._view, cam_layer), input_signature=signature)

    def refresh(self) -> None:
        """Copy the weights of the model's last layer, which has changed; all others are shared with it."""
        self._view.layers[-1].set_weights(self._model.layers[-1].get_weights())


def compute_maps(
    explainer: Explainer,
    images: np.ndarray,
    classes: np.ndarray,
    settings: ExplainConfig,
    advance: Advance = lambda count: None,
) -> dict[str, np.ndarray]:
    """Return the maps of each of `EXPLANATION_METHODS` at its own resolution, 0 where there is no evidence.

    "saliency" is the largest absolute gradient over the colours (Simonyan et al. 2014), "smoothgrad" its mean over
    noisy copies (Smilkov et al. 2017), "gradcam" and "gradcam++" the weighted activations of one layer (Selvaraju
    et al. 2017; Chattopadhay et al. 2018) without negative evidence.

    Args:
        explainer: the model.
        images: float32, (N, side, side, 3), RGB in [0, 255].
        classes: the explained class of each image, int64, (N,).
        settings: SmoothGrad's samples and noise, and the seed of that noise.
        advance: called with the number of maps just finished.

    Returns:
        float32, (N, height, width), not scaled: as large as the image for gradients, as the layer's map for
        activations. An image without any evidence has a map of zeros.
    """
    saliency, gradcam, gradcam_plus_plus = _plain_maps(explainer, images, classes, advance)
    maps = {
        "saliency": saliency,
        "smoothgrad": _smoothgrad(explainer, images, classes, settings, advance),
        "gradcam": gradcam,
        "gradcam++": gradcam_plus_plus,
    }
    # A score beyond the range of exp leaves Grad-CAM++ without a number.
    return {
        method: np.maximum(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
        for method, values in maps.items()
    }


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Return the maps enlarged to the image, float32, (N, side, side), each cell spread around its own centre."""
    if maps.shape[1:] == (side, side):
        return maps
    enlarged = [Image.fromarray(heat, mode="F").resize((side, side), Image.Resampling.BILINEAR) for heat in maps]
    return np.stack([np.asarray(image) for image in enlarged])


def _pass_through(
    view: keras.Model, cam_layer: str
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Return the function from images and classes to what one pass forward and backward gives.

    These are the absolute gradients, float32, (batch, side, side, 3), and the maps of Grad-CAM and of Grad-CAM++,
    float32, (batch, height, width).
    """
    # ConvNeXt's blocks end in `x + y`, which is an operation but not a layer.
    layer = next(operation for operation in view.operations if operation.name == cam_layer)
    both = keras.Model(view.inputs, [layer.output, *view.outputs])

    def explain(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            activations, scores = both(images, training=False)
            score = tf.gather(scores, classes, batch_dims=1)
        gradients, gradients_of_layer = tape.gradient(score, [images, activations])
        cam = gradcam(activations, gradients_of_layer)
        return tf.abs(gradients), cam, gradcam_plus_plus(activations, gradients_of_layer, score)

    return explain


def _plain_maps(
    explainer: Explainer, images: np.ndarray, classes: np.ndarray, advance: Advance
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the maps that need one pass per image: Saliency, Grad-CAM and Grad-CAM++."""

    def compute(rows: slice) -> tuple[np.ndarray, ...]:
        gradients, *cams = map(np.asarray, explainer.explain(images[rows], classes[rows]))
        return gradients.max(axis=-1), *cams

    size = batch_size(images)
    batches = []
    rows = [slice(start, start + size) for start in range(0, len(images), size)]
    for maps in map_in_order(compute, rows, BATCHES_AT_ONCE):
        batches.append(maps)
        advance(3 * len(maps[0]))
    saliency, cam, cam_plus_plus = map(np.concatenate, zip(*batches, strict=True))
    return saliency, cam, cam_plus_plus


def _smoothgrad(
    explainer: Explainer, images: np.ndarray, classes: np.ndarray, settings: ExplainConfig, advance: Advance
) -> np.ndarray:
    """Return the largest mean absolute gradient over the colours, float32, (N, side, side).

    The noise of a copy is normally distributed; its deviation is a share of the range of the image's values.
    """
    draws = np.random.RandomState(settings.seed)
    copies = max(1, batch_size(images) // NOISE_IMAGES)  # of each image in one batch

    def noisy_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), NOISE_IMAGES):
            group, labels = images[start : start + NOISE_IMAGES], classes[start : start + NOISE_IMAGES]
            deviations = settings.smooth_noise * np.ptp(group, axis=(1, 2, 3), keepdims=True)
            for first in range(0, settings.smooth_samples, copies):
                count = min(copies, settings.smooth_samples - first)
                # Drawn for a whole group even if the last one has fewer images.
                noise = draws.standard_normal((count, NOISE_IMAGES, *images.shape[1:]))[:, : len(group)]
                yield group + (deviations * noise).astype(np.float32), np.tile(labels, (count, 1))

    def compute(batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        noisy, labels = batch
        gradients, _, _ = explainer.explain(noisy.reshape(-1, *images.shape[1:]), labels.reshape(-1))
        return np.asarray(gradients).reshape(noisy.shape)

    batches_per_group = -(-settings.smooth_samples // copies)
    maps, parts = [], []
    for gradients in map_in_order(compute, noisy_batches(), BATCHES_AT_ONCE):
        parts.append(gradients.sum(axis=0))
        if len(parts) == batches_per_group:
            maps.append((np.sum(parts, axis=0) / settings.smooth_samples).max(axis=-1))
            advance(len(maps[-1]))
            parts = []
    return np.concatenate(maps)


def batch_size(images: np.ndarray) -> int:
    """Return how many images' gradients are computed at once, which limits memory."""
    return max(1, min(LARGEST_BATCH, PIXELS_PER_BATCH // (images.shape[1] * images.shape[2])))
