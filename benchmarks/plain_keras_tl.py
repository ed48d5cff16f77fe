"""The frozen phase as the Keras guides teach it, for comparison: one script, no keras_bench.

https://keras.io/guides/transfer_learning/ with the recipe of experiments/tiny-imagenet.yaml: the same backbone, head,
augmentation, optimizer, batch size and number of images. Prints one JSON line.
"""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf


def load(folder: str, subset: str, image_size: int, batch_size: int) -> tuple[tf.data.Dataset, int]:
    dataset = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(image_size, image_size), batch_size=batch_size,
        validation_split=0.1, subset=subset, seed=0, verbose=False,
    )  # fmt: skip
    return dataset.prefetch(tf.data.AUTOTUNE), len(dataset.file_paths)


PREPROCESSING = {
    "MobileNet": keras.applications.mobilenet.preprocess_input,
    "EfficientNetB0": keras.applications.efficientnet.preprocess_input,
    "ResNet50": keras.applications.resnet.preprocess_input,
}


def build(name: str, image_size: int, classes: int, alpha: float) -> keras.Model:
    width = {"alpha": alpha} if name == "MobileNet" else {}
    builder = getattr(keras.applications, name)
    backbone = builder(include_top=False, weights=None, input_shape=(image_size, image_size, 3), **width)
    backbone.trainable = False
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
    return keras.Model(image, x)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--model", choices=list(PREPROCESSING), default="MobileNet")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--alpha", type=float, default=0.75)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    train, images = load(arguments.folder, "training", arguments.image_size, 32)
    validation, _ = load(arguments.folder, "validation", arguments.image_size, 32)
    model = build(arguments.model, arguments.image_size, train.element_spec[1].shape[-1], arguments.alpha)
    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", metrics=["accuracy"])
    seconds, whole = [], []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.monotonic()

        def on_test_begin(self, logs=None):
            seconds.append(time.monotonic() - self.started)

        def on_epoch_end(self, epoch, logs=None):
            whole.append(time.monotonic() - self.started)

    model.fit(train, validation_data=validation, epochs=arguments.epochs, verbose=0, callbacks=[Clock()])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {"images": images, "train_seconds": seconds, "epoch_seconds": whole, "peak_memory_mb": memory}
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
