"""Explanation maps of a model's predictions, through tf-keras-vis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.scores import CategoricalScore

from keras_bench.config.schema import ExplainConfig

MAP_BATCH = 8  # bounds memory: SmoothGrad holds every noisy copy of a batch at once


def linear_view(model: keras.Model) -> keras.Model:
    """Return the model without its softmax, sharing every layer but the last, whose weights are copied.

    Maps explain the score before the softmax: a probability near 1 has next to no gradient. tf-keras-vis would clone
    the model to edit its last activation; a clone of EfficientNet loses the constants of its normalisation.

    Args:
        model: flat, from `image` to a last Dense layer with softmax.
    """
    last = model.layers[-1]
    linear = keras.layers.Dense(last.units, dtype="float32", name=f"{last.name}_linear")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    view = keras.Model([model.input], scores)  # tf-keras-vis calls it with a list
    view.call = tf.function(view.call, reduce_retracing=True)  # tf-keras-vis differentiates it op by op: 1.5 × slower
    return view


def refresh_view(view: keras.Model, model: keras.Model) -> None:
    """Copy the last layer's weights again; a new view would cost a new trace, which takes longer than the maps."""
    view.layers[-1].set_weights(model.layers[-1].get_weights())


def compute_maps(
    view: keras.Model,
    images: np.ndarray,
    classes: np.ndarray,
    method: str,
    cam_layer: str,
    settings: ExplainConfig,
    advance: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return one map per image at the method's own resolution, 0 where there is no evidence.

    "saliency" is the largest absolute gradient over the colours (Simonyan et al. 2014), "smoothgrad" its mean over
    noisy copies (Smilkov et al. 2017), "gradcam" and "gradcam++" the weighted activations of one layer (Selvaraju
    et al. 2017; Chattopadhay et al. 2018), negative evidence cut off.

    Args:
        view: from `linear_view`, float32.
        images: float32, (N, side, side, 3), RGB in [0, 255].
        classes: int64, (N,), the class explained for each.
        method: one of `EXPLANATION_METHODS`.
        cam_layer: the layer (or arithmetic between layers) whose activations the last two use.
        settings: SmoothGrad's samples and noise, and the seed of that noise.
        advance: told how many images were just finished.

    Returns:
        float32, (N, height, width), not scaled: as large as the image for gradients, as the layer for activations.
        An image without any evidence has a map of zeros.
    """
    explain = _explainer(view, method, cam_layer, settings)
    maps = []
    with _seeded_noise(settings.seed):
        for start in range(0, len(images), MAP_BATCH):
            # The last batch is filled up: another size would be traced anew.
            rows = np.minimum(np.arange(start, start + MAP_BATCH), len(images) - 1)
            score = CategoricalScore([int(k) for k in classes[rows]])
            count = min(MAP_BATCH, len(images) - start)
            maps.append(np.asarray(explain(score, images[rows]), dtype=np.float32)[:count])
            advance(count)
    # Grad-CAM++ divides by a sum that is 0 where nothing is active.
    return np.maximum(np.nan_to_num(np.concatenate(maps), nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Return the maps as large as the image, float32, (N, side, side), each cell spread round its own centre."""
    if maps.shape[1:] == (side, side):
        return maps
    pictures = [Image.fromarray(heat, mode="F").resize((side, side), Image.Resampling.BILINEAR) for heat in maps]
    return np.stack([np.asarray(picture) for picture in pictures])


def _explainer(
    view: keras.Model, method: str, cam_layer: str, settings: ExplainConfig
) -> Callable[[Any, np.ndarray], Any]:
    if method in ("saliency", "smoothgrad"):
        saliency = Saliency(view, clone=False)
        noise: dict[str, Any] = {}
        if method == "smoothgrad":
            noise = {"smooth_samples": settings.smooth_samples, "smooth_noise": settings.smooth_noise}
        return lambda score, batch: saliency(score, batch, normalize_map=False, **noise)
    kind = Gradcam if method == "gradcam" else GradcamPlusPlus
    cam = kind(view, clone=False)
    # The layer is given: the automatic search looks for a convolution and is wrong for most backbones.
    place = {"penultimate_layer": _Place(view, cam_layer), "seek_penultimate_conv_layer": False}
    # Not enlarged by tf-keras-vis: it stretches the outermost cells' centres onto the image's edge, which moves the
    # maximum of a 4 × 4 map out of most objects' boxes.
    return lambda score, batch: cam(score, batch, normalize_cam=False, expand_cam=False, **place)


class _Place(keras.layers.Layer):
    """Stands for an operation of a model towards tf-keras-vis, which reads `output` and takes layers only.

    ConvNeXt's blocks end in `x + y`, which is an operation and no layer.
    """

    def __init__(self, view: keras.Model, name: str) -> None:
        super().__init__()
        self.operation = next(operation for operation in view.operations if operation.name == name)

    @property
    def output(self) -> keras.KerasTensor:
        """The operation's output."""
        return self.operation.output


@contextmanager
def _seeded_noise(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which tf-keras-vis draws from, and put its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
