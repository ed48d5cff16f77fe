"""Explanation maps of a model's predictions, by tf-keras-vis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.scores import CategoricalScore

from keras_bench.config.schema import ExplainConfig

MAP_BATCH = 8  # limits memory: SmoothGrad holds all noisy copies of a batch at once


def linear_view(model: keras.Model) -> keras.Model:
    """Return the model without its softmax; it shares all layers but the last, whose weights are copied.

    Maps explain the score before the softmax: a probability near 1 has almost no gradient. tf-keras-vis would clone
    the model to replace its last activation, and a clone of EfficientNet loses the constants of its normalisation.

    Args:
        model: flat functional model that ends in a Dense layer with softmax.
    """
    last = model.layers[-1]
    linear = keras.layers.Dense(last.units, dtype="float32", name=f"{last.name}_linear")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    view = keras.Model([model.input], scores)  # a list, as tf-keras-vis calls it with one
    view.call = tf.function(view.call, reduce_retracing=True)  # otherwise tf-keras-vis runs it eagerly, 1.5 × slower
    return view


def refresh_view(view: keras.Model, model: keras.Model) -> None:
    """Copy the last layer's weights again; a new view would have to be traced, which takes longer than the maps."""
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
    et al. 2017; Chattopadhay et al. 2018) without negative evidence.

    Args:
        view: a float32 model from `linear_view`.
        images: float32, (N, side, side, 3), RGB in [0, 255].
        classes: the explained class of each image, int64, (N,).
        method: one of `EXPLANATION_METHODS`.
        cam_layer: name of the layer or operation whose activations Grad-CAM and Grad-CAM++ use.
        settings: SmoothGrad's samples and noise, and the seed of that noise.
        advance: called with the number of images just finished.

    Returns:
        float32, (N, height, width), not scaled: as large as the image for gradients, as the layer's map for
        activations. An image without any evidence has a map of zeros.
    """
    explain = _explainer(view, method, cam_layer, settings)
    maps = []
    with _seeded_noise(settings.seed):
        for start in range(0, len(images), MAP_BATCH):
            # The last batch is filled up, since another size would be traced again.
            rows = np.minimum(np.arange(start, start + MAP_BATCH), len(images) - 1)
            score = CategoricalScore([int(k) for k in classes[rows]])
            count = min(MAP_BATCH, len(images) - start)
            maps.append(np.asarray(explain(score, images[rows]), dtype=np.float32)[:count])
            advance(count)
    # Grad-CAM++ divides by a sum that is 0 if nothing is active.
    return np.maximum(np.nan_to_num(np.concatenate(maps), nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Return the maps enlarged to the image, float32, (N, side, side), each cell spread around its own centre."""
    if maps.shape[1:] == (side, side):
        return maps
    enlarged = [Image.fromarray(heat, mode="F").resize((side, side), Image.Resampling.BILINEAR) for heat in maps]
    return np.stack([np.asarray(image) for image in enlarged])


def _explainer(
    view: keras.Model, method: str, cam_layer: str, settings: ExplainConfig
) -> Callable[[CategoricalScore, np.ndarray], np.ndarray]:
    """Return the function from a score and a batch of images to that batch's maps."""
    if method in ("saliency", "smoothgrad"):
        saliency = Saliency(view, clone=False)
        noise: dict[str, float] = {}
        if method == "smoothgrad":
            noise = {"smooth_samples": settings.smooth_samples, "smooth_noise": settings.smooth_noise}
        return lambda score, batch: saliency(score, batch, normalize_map=False, **noise)
    kind = Gradcam if method == "gradcam" else GradcamPlusPlus
    cam = kind(view, clone=False)
    # The layer is named, since the automatic search takes a convolution, which is wrong for most backbones.
    layer = {"penultimate_layer": _OperationAsLayer(view, cam_layer), "seek_penultimate_conv_layer": False}
    # Not enlarged by tf-keras-vis, which stretches the centres of the outermost cells to the image's edge and so moves
    # the maximum of a 4 × 4 map out of most objects' boxes.
    return lambda score, batch: cam(score, batch, normalize_cam=False, expand_cam=False, **layer)


class _OperationAsLayer(keras.layers.Layer):
    """Presents an operation of a model as a layer to tf-keras-vis, which accepts only layers and reads `output`.

    ConvNeXt's blocks end in `x + y`, which is an operation but not a layer.
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
    """Seed NumPy's global generator, which tf-keras-vis draws from, and restore its state afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
