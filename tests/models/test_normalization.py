import keras
import numpy as np
import pytest

from keras_bench.models.normalization import normalize


@pytest.mark.parametrize(
    ("scheme", "module"), [("caffe", "resnet50"), ("tf", "inception_v3"), ("torch", "densenet"), ("inside", None)]
)
def test_normalisation_equals_the_familys_preprocess_input(scheme, module):
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    image = keras.Input((5, 4, 3))
    ours = keras.Model(image, normalize(image, scheme))(images)
    reference = getattr(keras.applications, module).preprocess_input(images.copy()) if module else images
    np.testing.assert_allclose(ours, reference, atol=2e-5)
