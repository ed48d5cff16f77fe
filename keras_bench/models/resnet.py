"""ResNet18 and ResNet34, which keras.applications lacks (He et al. 2015, arXiv:1512.03385, table 1).

Layers are named like those of the larger ResNets in keras.applications. As in the paper, and unlike Keras's ResNet50,
convolutions have no bias, since a BatchNorm follows each: 11.7 M and 21.8 M parameters with a 1000-class top.
"""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers


def _padded_convolution(x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    """Apply padding, convolution and BatchNorm; "same" would pad asymmetrically at stride 2, unlike the reference."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters, kernel, strides=stride, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def _basic_block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _padded_convolution(x, filters, 1, stride, f"{name}_0")
    x = _padded_convolution(x, filters, 3, stride, f"{name}_1")
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = _padded_convolution(x, filters, 3, 1, f"{name}_2")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _resnet(pixels: keras.KerasTensor, depths: tuple[int, int, int, int]) -> keras.KerasTensor:
    """Return the last feature map, (batch, height / 32, width / 32, 512), for normalised pixels."""
    x = _padded_convolution(pixels, 64, 7, 2, "conv1")
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _basic_block(x, 64 * 2**stage, stride, f"conv{stage + 2}_block{block + 1}")
    return x


RESNET_BUILDERS: dict[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {
    "ResNet18": partial(_resnet, depths=(2, 2, 2, 2)),
    "ResNet34": partial(_resnet, depths=(3, 4, 6, 3)),
}
