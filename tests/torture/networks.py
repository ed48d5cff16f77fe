"""What is tortured: small networks that learn and draw random numbers, their images, and the commands that train them.

The networks stand in for the backbones of the table, whose graphs take TensorFlow many times as long to build. What is
tested, everything that a run writes and reads, is the same for both.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from keras_bench.download import digest_file
from tests.torture.server import Server

if TYPE_CHECKING:
    import keras

SIDE = 32  # of the images and of the networks' input, pixels
CLASSES = ("n01", "n02", "n03", "n04")
TRAIN, VAL = 20, 12  # images of each class
STAND_IN = "TortureNet"  # name of the stand-in among the backbones
WEIGHTS = "torture_net.weights.h5"
ARCHIVE = "tiny.zip"

# Few images are explained, since none of the checks depends on their number; little is drawn for TensorBoard.
COMMON = (
    *("training.batch_size=8", "dataset.image_size=32", "augmentation.rotation_degrees=20.0", "model.hidden_units=16"),
    *("explain.images=4", "explain.curve_images=4", "explain.randomized_images=4", "explain.smooth_samples=2"),
    # The last epochs shall matter: with few images for validation, top-1 is soon at its best.
    *(
        "training.checkpoint_monitor=val_cross_entropy",
        "explain.steps=4",
        "runtime.tensorboard=false",
        "runtime.save_state_seconds=0",
        "latency.batch_sizes=[1]",
    ),
    *("latency.calls=5", "latency.seconds=0.1", "latency.warm_up=1"),
)


@dataclass(frozen=True)
class Subject:
    """A command that is tortured.

    Attributes:
        name: how it is called in the table of kills.
        phase: last phase that it trains.
        settings: its values of --set, besides `COMMON`.
        downloads: whether it downloads images and weights; else it is given a folder of images.
        follows: the subject whose finished run it goes on from; "" if it starts from nothing.
    """

    name: str
    phase: str
    settings: tuple[str, ...]
    downloads: bool = False
    follows: str = ""

    def arguments(self, photos: Path, seed: int = 0, experiment: str = "folder") -> list[str]:
        """Return the command line after the program's name; it is run in the folder that takes `runs`."""
        data = [] if self.downloads else ["--data", str(photos)]
        experiment = "tiny-imagenet" if self.downloads else experiment
        options = ["run", "--experiment", experiment, "--model", STAND_IN, "--phase", self.phase, "--seed", str(seed)]
        options += ["--out", "runs", *data]
        for setting in (*COMMON, *self.settings):
            options += ["--set", setting]
        return options


_STREAMED = ("tl.features=streamed", "tl.epochs=1", "tl.learning_rate=0.03", "ft.epochs=3", "ft.learning_rate=0.003")
_CACHED = ("tl.features=cached", "tl.views=3", "tl.epochs=4", "tl.learning_rate=0.01", "tl.plateau_patience=1")
_SCRATCH = ("scratch.epochs=3", "scratch.learning_rate=0.05", "model.auxiliary_weight=0.4")
_MOMENTUM = ("scratch.optimizer=sgd", "training.accumulation_steps=2")
_BARE = ("explain.enabled=false", "latency.enabled=false")  # they take long, and are made for one subject

SUBJECTS = (
    Subject(
        "streamed ft",
        "ft",
        (*_STREAMED, "ft.optimizer=adamw", "ft.weight_decay=0.01", "model.batch_norm=train", *_BARE),
        downloads=True,
    ),
    Subject("cached tl", "tl", (*_CACHED, "model.dropout=0.4", *_BARE), downloads=True),
    Subject("scratch, auxiliary", "scratch", (*_SCRATCH, *_MOMENTUM, *_BARE)),
    Subject("what follows", "scratch", (*_SCRATCH, *_MOMENTUM), follows="scratch, auxiliary"),
)


def stand_in(include_top: bool, weights: None, input_tensor: keras.KerasTensor) -> keras.Model:
    """Build the stand-in as keras.applications builds its networks; two of its layers are random."""
    import keras

    x = input_tensor
    for block, filters in enumerate((8, 16, 24), start=1):
        name = f"block{block}"
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
        if block == 1:
            x = keras.layers.SpatialDropout2D(0.1, name=f"{name}_drop")(x)
        if block == 2:
            x = keras.layers.GaussianNoise(0.05, name=f"{name}_noise")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name=STAND_IN)


def add_stand_in(server: Server, folder: Path) -> None:
    """Add the stand-in to the table of backbones, and let everything be downloaded from a server of ours.

    Args:
        server: it serves the folder's files.
        folder: holds the archive, and the weights unless they are yet to be made.
    """
    import keras

    from keras_bench.backbones import table
    from keras_bench.data import tiny_imagenet

    mobilenet = table.BACKBONES["MobileNet"]
    family = replace(
        mobilenet.family, name="Torture", cam_layer="block3_relu", block=r"^block\d", alphas=(), weights_sizes=()
    )
    weights = folder / WEIGHTS
    table.BACKBONES[STAND_IN] = replace(
        mobilenet,
        name=STAND_IN,
        family=family,
        width=24,
        weights_url=WEIGHTS,
        weights_checksum=digest_file(weights) if weights.is_file() else "",
        auxiliary_layer="block2_relu",
    )
    keras.applications.TortureNet = stand_in
    table._STORAGE = server.address
    tiny_imagenet.URL, tiny_imagenet.MD5 = f"{server.address}{ARCHIVE}", digest_file(folder / ARCHIVE, "md5")


def texture(label: int, number: int) -> Image.Image:
    """Return a noisy image of stripes, whose direction tells its class."""
    generator = np.random.default_rng([label, number])
    angle = np.pi * label / len(CLASSES) + generator.normal(0, 0.15)
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * generator.uniform(0.5, 1.0) + generator.uniform(0, 6))
    colour = generator.uniform(0.3, 1.0, 3)
    tint = 25 * np.cos(np.pi * (label / 2 + np.arange(3) / 1.5))  # as a second, weaker sign
    pixels = 110 + tint + 60 * waves[..., None] * colour + generator.normal(0, 25, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_images(root: Path) -> Path:
    """Write images in the layout of Tiny ImageNet, and a zip of it; return the zip.

    The folder of `train` serves those who read one folder per class.
    """
    lines = []
    (root / "tiny" / "val" / "images").mkdir(parents=True)
    for label, name in enumerate(CLASSES):
        folder = root / "tiny" / "train" / name / "images"
        folder.mkdir(parents=True)
        for number in range(TRAIN):
            texture(label, number).save(folder / f"{name}_{number}.JPEG", quality=90)
        for number in range(TRAIN, TRAIN + VAL):
            texture(label, number).save(root / "tiny" / "val" / "images" / f"val_{label}_{number}.JPEG", quality=90)
            lines.append(f"val_{label}_{number}.JPEG\t{name}\t0\t0\t{SIDE - 1}\t{SIDE - 1}\n")
    (root / "tiny" / "val" / "val_annotations.txt").write_text("".join(lines))
    return Path(shutil.make_archive(str(root / "tiny"), "zip", root, "tiny"))


def write_weights(path: Path) -> None:
    """Train the stand-in for a little while and write its weights without the top, as the server offers them."""
    import keras

    from keras_bench.backbones.table import BACKBONES
    from keras_bench.config import ModelConfig
    from keras_bench.models.build import ModelSpec, build_backbone

    keras.utils.set_random_seed(1)
    backbone = build_backbone(ModelSpec(BACKBONES[STAND_IN], SIDE, len(CLASSES), ModelConfig()))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(len(CLASSES), activation="softmax")(pooled))
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = zip(
        *((texture(label, 1000 + n), label) for label in range(len(CLASSES)) for n in range(16)), strict=True
    )
    model.fit(np.stack([np.asarray(image) for image in images]), np.array(labels), epochs=25, verbose=0)
    backbone.save_weights(path)
