"""The same weights give the same outputs, whichever way they are loaded (see tensorflow#62193)."""

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.errors import UserError
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.models.weights import initial_model, load_model

IMAGES = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def features(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)(IMAGES, training=False).numpy()


def spec(name, alpha=None):
    return ModelSpec(BACKBONES[name], 64, 5, ModelConfig(alpha=alpha))


def shake(model):
    """Move the weights of every layer, BatchNorm statistics included, away from their initial values."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights(
            [value + rng.uniform(0, 0.2, value.shape).astype(value.dtype) for value in layer.get_weights()]
        )


@pytest.fixture(scope="module")
def published_file(tmp_path_factory):
    """A file as published: legacy HDF5 whose normalisation stores ImageNet's standard deviation as "variance"."""
    keras.backend.clear_session()  # a published file's layers are numbered from the start
    model = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(64, 64, 3))
    shake(model)
    model.get_layer("normalization").set_weights(
        [np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)]
    )
    path = tmp_path_factory.mktemp("weights") / "efficientnetb0_notop.h5"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def reference(published_file):
    """Features that keras.applications computes with weights="imagenet"."""
    patch = pytest.MonkeyPatch()
    patch.setattr(file_utils, "get_file", lambda *arguments, **options: str(published_file))
    model = keras.applications.EfficientNetB0(weights="imagenet", include_top=False, input_shape=(64, 64, 3))
    patch.undo()
    return model(IMAGES, training=False).numpy()


def test_efficientnet_from_a_file_gives_the_features_of_keras(published_file, reference):
    model = initial_model(spec("EfficientNetB0"), published_file)
    ours = features(model, "top_activation")
    np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=1e-3 * np.abs(reference).max())


def test_efficientnet_gives_the_same_after_saving_reloading_and_transfer(published_file, tmp_path):
    first = initial_model(spec("EfficientNetB0"), published_file)
    expected = features(first, "top_activation")
    first.save(tmp_path / "model.keras")
    first.save_weights(tmp_path / "model.weights.h5")
    reloaded = load_model(tmp_path / "model.keras")
    rebuilt = build_model(spec("EfficientNetB0"))
    rebuilt.load_weights(tmp_path / "model.weights.h5")
    transferred = initial_model(spec("EfficientNetB0"), tmp_path / "model.keras")
    for model in (reloaded, rebuilt, transferred):
        np.testing.assert_allclose(features(model, "top_activation"), expected, rtol=1e-5, atol=1e-5)
    heads = [model.get_layer("head_hidden").kernel.numpy() for model in (first, transferred)]
    assert not np.array_equal(*heads)


def test_random_efficientnet_normalises_too():
    model = initial_model(spec("EfficientNetB0"), None)
    (layer,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    normalised = features(model, layer.name)
    expected = (IMAGES / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised, expected, atol=1e-5)


def test_real_imagenet_weights_work_at_every_input_size(shared_keras_home):
    path = shared_keras_home / "models" / "mobilenet_7_5_224_tf_no_top.h5"
    model = initial_model(spec("MobileNet", alpha=0.75), path)
    reference = keras.applications.MobileNet(alpha=0.75, weights=str(path), include_top=False, input_shape=(64, 64, 3))
    expected = reference(keras.applications.mobilenet.preprocess_input(IMAGES.copy()), training=False)
    np.testing.assert_allclose(features(model, "conv_pw_13_relu"), expected, atol=1e-4)


def test_weights_of_another_backbone_are_refused_in_one_line(tmp_path):
    small = initial_model(spec("MobileNet", alpha=0.25), None)
    small.save(tmp_path / "small.keras")
    with pytest.raises(UserError, match="holds another backbone than MobileNet: expected .* parameters, received"):
        initial_model(spec("MobileNet", alpha=0.5), tmp_path / "small.keras")
    small.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(UserError, match="small.weights.h5 does not fit MobileNet without its top"):
        initial_model(spec("MobileNet", alpha=0.5), tmp_path / "small.weights.h5")
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken.keras: not a model that can be loaded"):
        initial_model(spec("MobileNet", alpha=0.5), tmp_path / "broken.keras")


def test_code_in_model_files_is_not_run(tmp_path):
    image = keras.Input((4, 4, 3))
    keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image)).save(tmp_path / "code.keras")
    with pytest.raises(UserError, match="not a model that can be loaded.*[Ll]ambda"):
        load_model(tmp_path / "code.keras")
