"""The predictions behind the deletion and insertion curves."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_bench.config.schema import ExplainConfig
from keras_bench.console import Log
from keras_bench.explain.checks import blurred, evidence_order
from keras_bench.explain.records import EXPLANATION_METHODS, RANDOM
from keras_bench.explain.run import ExplainedBatch, _curves
from keras_bench.models import forward, onnx
from keras_bench.models.forward import keras_forward
from tests.models.test_onnx import build


@pytest.mark.parametrize("threshold", [0, 10**12])
def test_curves_are_the_same_by_onnx_runtime_and_by_keras(monkeypatch, threshold):
    """Their areas agree with the definition, computed by Keras for each image by itself, to 1e-5."""
    conversions = []
    convert = onnx.network_to_onnx
    monkeypatch.setattr(onnx, "network_to_onnx", lambda model: conversions.append(model) or convert(model))
    monkeypatch.setattr(forward, "PIXELS_WORTH_CONVERTING", threshold)
    model = build("MobileNet", alpha=0.25)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (5, 48, 48, 3)).astype(np.float32)
    predicted = keras_forward(model)(images).argmax(axis=1)
    subject = ExplainedBatch(images, predicted, np.full((5, 4), np.nan), 5, "conv_pw_11_relu", 4)
    maps = {method: generator.random((5, 48, 48)).astype(np.float32) for method in EXPLANATION_METHODS}
    job = SimpleNamespace(config=SimpleNamespace(explain=ExplainConfig(curve_images=4, cells=4, steps=4)))
    curves = _curves(job, model, subject, maps, Log())
    assert len(conversions) == (threshold == 0)
    assert set(curves) == {*EXPLANATION_METHODS, RANDOM}
    expected = by_definition(model, images[:4], predicted[:4], maps["gradcam"][:4])
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(curves["gradcam"], expected, atol=1e-5)


def by_definition(model, images, classes, maps):
    """Return the areas of deletion and insertion in four steps of four cells, (2, N)."""
    mixed = []
    for image, background, order in zip(images, blurred(images), evidence_order(maps, 4), strict=True):
        for step in range(5):
            removed = np.isin(np.arange(16), order[: 4 * step]).reshape(4, 4).repeat(12, 0).repeat(12, 1)[..., None]
            mixed += [np.where(removed, background, image), np.where(removed, image, background)]
    probabilities = keras_forward(model)(np.stack(mixed)).reshape(len(images), 5, 2, -1)
    points = np.stack([image[..., label] for image, label in zip(probabilities, classes, strict=True)])
    return np.trapezoid(points, dx=1 / 4, axis=1).T
