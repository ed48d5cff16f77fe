"""The same recipe written as in the Keras guides, for comparison: one script that does not use keras_bench.

https://keras.io/guides/transfer_learning/ with the recipe of experiments/tiny-imagenet.yaml: the same backbone, head,
augmentation, optimizer, batch size and images. First the frozen phase, then fine-tuning of all blocks or of the last.
Prints one JSON line.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

PREPROCESSING = {
    "MobileNet": keras.applications.mobilenet.preprocess_input,
    "EfficientNetB0": keras.applications.efficientnet.preprocess_input,
    "ResNet50": keras.applications.resnet.preprocess_input,
}
LAST_BLOCK = {
    "MobileNet": ("conv_dw_13", "conv_pw_13"),
    "EfficientNetB0": ("block7a", "top_"),
    "ResNet50": ("conv5_block3",),
}


class Clock(keras.callbacks.Callback):
    """Measures the seconds of each epoch with and without validation, and those until the end of the first step."""

    def __init__(self):
        super().__init__()
        self.train, self.epochs, self.first_step = [], [], None

    def on_train_begin(self, logs=None):
        self.begun = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.first_step is None:
            self.first_step = time.monotonic() - self.begun

    def on_test_begin(self, logs=None):
        self.train.append(time.monotonic() - self.started)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(time.monotonic() - self.started)


def load(folder: str, subset: str, image_size: int, batch_size: int) -> tuple[tf.data.Dataset, int]:
    dataset = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(image_size, image_size), batch_size=batch_size,
        validation_split=0.1, subset=subset, seed=0, verbose=False,
    )  # fmt: skip
    return dataset.prefetch(tf.data.AUTOTUNE), len(dataset.file_paths)


def build(name: str, image_size: int, classes: int, alpha: float) -> tuple[keras.Model, keras.Model]:
    width = {"alpha": alpha} if name == "MobileNet" else {}
    builder = getattr(keras.applications, name)
    backbone = builder(include_top=False, weights=None, input_shape=(image_size, image_size, 3), **width)
    image = keras.Input((image_size, image_size, 3))
    x = keras.layers.RandomFlip("horizontal")(image)
    x = keras.layers.RandomRotation(10 / 360)(x)
    x = keras.layers.RandomZoom(0.1)(x)
    x = keras.layers.RandomTranslation(0.1, 0.1)(x)
    x = PREPROCESSING[name](x)
    x = backbone(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.Dense(256, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-4))(x)
    x = keras.layers.Dense(classes, activation="softmax", kernel_regularizer=keras.regularizers.L2(1e-4))(x)
    return keras.Model(image, x), backbone


def set_trainable(name: str, backbone: keras.Model, blocks: str) -> None:
    """Unfreeze "none", "all" or the "last" of the blocks; BatchNorm layers stay frozen, as keras.io advises."""
    backbone.trainable = True
    for layer in backbone.layers:
        chosen = blocks == "all" or (blocks == "last" and layer.name.startswith(LAST_BLOCK[name]))
        layer.trainable = chosen and not isinstance(layer, keras.layers.BatchNormalization)


def fit(model: keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset, epochs: int) -> dict[str, object]:
    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    model.fit(train, validation_data=validation, epochs=epochs, verbose=0, callbacks=[clock])
    return {"train_seconds": clock.train, "epoch_seconds": clock.epochs, "first_step": clock.first_step}


def rates(model: keras.Model, validation: tf.data.Dataset, images: int) -> dict[str, float]:
    """Return images/s of `predict` on the validation data, and milliseconds of `predict` on one image."""
    model.predict(validation, verbose=0)
    started = time.monotonic()
    model.predict(validation, verbose=0)
    evaluation = images / (time.monotonic() - started)
    image = next(iter(validation))[0][:1].numpy()
    calls = []
    for _ in range(40):
        started = time.monotonic()
        model.predict(image, verbose=0)
        calls.append(1000 * (time.monotonic() - started))
    return {"evaluation": evaluation, "latency_ms": statistics.median(calls[10:])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--model", choices=list(PREPROCESSING), default="MobileNet")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--alpha", type=float, default=0.75)
    parser.add_argument("--tl-epochs", type=int, default=2)
    parser.add_argument("--ft-epochs", type=int, default=0)
    parser.add_argument("--unfreeze", choices=("all", "last"), default="all")
    arguments = parser.parse_args()
    train, images = load(arguments.folder, "training", arguments.image_size, 32)
    validation, val_images = load(arguments.folder, "validation", arguments.image_size, 32)
    classes = train.element_spec[1].shape[-1]
    model, backbone = build(arguments.model, arguments.image_size, classes, arguments.alpha)
    measured: dict[str, object] = {"images": images}
    set_trainable(arguments.model, backbone, "none")
    if arguments.tl_epochs:
        measured["tl"] = fit(model, train, validation, arguments.tl_epochs)
    if arguments.ft_epochs:
        set_trainable(arguments.model, backbone, arguments.unfreeze)
        measured["ft"] = fit(model, train, validation, arguments.ft_epochs)
    measured["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured.update(rates(model, validation, val_images))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
