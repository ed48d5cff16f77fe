"""The closed table of backbones: every classification network of keras.applications, plus ResNet18 and ResNet34.

It holds facts only and imports no TensorFlow; `keras_bench.models` builds the networks. Only this module names the
builders in `keras.applications`, as strings; a test builds every row and compares it with the table.

Sources: parameter counts from the papers and the table of https://keras.io/api/applications/ (with the 1000-class
top); file names and checksums from keras.applications 3.15, compared with it by a test.
"""

import re
from dataclasses import dataclass
from typing import Literal

Normalization = Literal["caffe", "tf", "torch", "inside"]

_STORAGE = "https://storage.googleapis.com/"
_TENSORFLOW = "tensorflow/keras-applications/"


@dataclass(frozen=True)
class Family:
    """Properties that all sizes of an architecture share.

    Attributes:
        name: the architecture.
        normalization: how raw RGB in [0, 255] is normalised before the first convolution. caffe: BGR minus the
            ImageNet mean; tf: x / 127.5 - 1; torch: (x / 255 - mean) / standard deviation; inside: by the network.
        cam_layer: layer whose activations class-activation maps use. "features" is an identity that `models/build.py`
            adds where Keras gives the last layer a number that differs between processes.
        block: pattern that matches a layer's block in its name; a layer without a match belongs to the block of the
            next layer with one.
        min_size: smallest side of an input image that the architecture accepts, pixels.
        alphas: width multipliers with ImageNet weights; empty if the family has none.
        weights_sizes: input sizes, pixels, with ImageNet weights of their own; empty if one file serves all sizes.
        one_size_alphas: width multipliers with ImageNet weights for the default size only.
        pooled_norm: whether the last layer, a LayerNormalization, was pretrained on pooled features. Without the top
            keras.applications applies it to the feature map before pooling, where its weights do not fit.
    """

    name: str
    normalization: Normalization
    cam_layer: str
    block: str
    min_size: int = 32
    alphas: tuple[float, ...] = ()
    weights_sizes: tuple[int, ...] = ()
    one_size_alphas: tuple[float, ...] = ()
    pooled_norm: bool = False


@dataclass(frozen=True)
class Backbone:
    """One row of the table.

    Attributes:
        name: the builder in keras.applications, and the value of `--model`.
        family: the architecture.
        image_size: default side of the square input, pixels.
        width: channels of the last feature map at alpha 1.
        parameters_millions: published count with the 1000-class top, at alpha 1.
        weights_url: URL of the ImageNet weights without top, with placeholders for width and input size if there is a
            file for each; "" if there are none.
        weights_checksum: md5 or sha256 of that file; "" if Keras states none.
        weights_name: name of the local file if it differs from the URL's.
        own_cam_layer: overrides the family's `cam_layer`.
        auxiliary_layer: layer whose output feeds the architecture's auxiliary classifier in training; "": none.
    """

    name: str
    family: Family
    image_size: int
    width: int
    parameters_millions: float
    weights_url: str = ""
    weights_checksum: str = ""
    weights_name: str = ""
    own_cam_layer: str = ""
    auxiliary_layer: str = ""

    @property
    def cam_layer(self) -> str:
        """Layer whose activations class-activation maps use."""
        return self.own_cam_layer or self.family.cam_layer

    @property
    def blocks(self) -> re.Pattern[str]:
        """Pattern that matches a layer's block in its name."""
        return re.compile(self.family.block)

    def weights_sizes(self, alpha: float | None = None) -> tuple[int, ...]:
        """Return the input sizes, pixels, with ImageNet weights of their own; () if one file serves all sizes."""
        return (self.image_size,) if alpha in self.family.one_size_alphas else self.family.weights_sizes

    def weights_size(self, image_size: int, alpha: float | None = None) -> int | None:
        """Return the input size of the ImageNet weights for images of a given size, chosen as in keras.applications.

        A size without weights of its own uses those of the default size: convolutions accept every size.

        Args:
            image_size: side of the square input, pixels.
            alpha: width multiplier; None: 1.

        Returns:
            One of `weights_sizes`, pixels; None if one file serves all sizes.
        """
        sizes = self.weights_sizes(alpha)
        if not sizes:
            return None
        return image_size if image_size in sizes else self.image_size

    def weights_source(self, alpha: float | None = None, size: int | None = None) -> tuple[str, str, str] | None:
        """Return (URL, local file name, checksum) of the ImageNet weights, or None if there are none.

        Args:
            alpha: width multiplier; None: 1.
            size: one of `weights_sizes`, pixels; None: the default size. No effect if one file serves all sizes.
        """
        if not self.weights_url:
            return None
        alpha = 1.0 if alpha is None else alpha
        written = f"{alpha:.1f}" if alpha == 1.0 else f"{alpha:g}"
        tenths = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}.get(alpha, written)
        url = _STORAGE + self.weights_url.format(alpha=written, tenths=tenths, size=size or self.image_size)
        return url, self.weights_name or url.rsplit("/", 1)[-1], self.weights_checksum if alpha == 1.0 else ""


_VGG = Family("VGG", "caffe", "block5_conv3", r"^block\d+")
_RESNET = Family("ResNet", "caffe", "conv5_block3_out", r"^conv\d_block\d+")
_RESNET_TORCH = Family("ResNet", "torch", "conv5_block3_out", r"^conv\d_block\d+")
_RESNET_V2 = Family("ResNetV2", "tf", "post_relu", r"^conv\d_block\d+")
_XCEPTION = Family("Xception", "tf", "block14_sepconv2_act", r"^block\d+", 71)
_INCEPTION = Family("Inception", "tf", "mixed10", r"^mixed\d+$", 75)
_INCEPTION_RESNET = Family("InceptionResNet", "tf", "conv_7b_ac", r"^(?:mixed_\d\w|block\d+_\d+)", 75)
_MOBILENET = Family(
    "MobileNet",
    "tf",
    "conv_pw_13_relu",
    r"^conv_(?:dw|pw|pad)_(\d+)",
    32,
    (0.25, 0.5, 0.75, 1.0),
    weights_sizes=(128, 160, 192, 224),
)
_MOBILENET_V2 = Family(
    "MobileNetV2",
    "tf",
    "out_relu",
    r"^(?:expanded_conv|block_\d+)(?=_)",
    32,
    (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    weights_sizes=(96, 128, 160, 192, 224),
    # 22 checkpoints, not 30: keras.applications requests wide ones for other sizes too, which do not exist (keras#16452).
    one_size_alphas=(1.3, 1.4),
)
_MOBILENET_V3 = Family("MobileNetV3", "inside", "features", r"^expanded_conv(?:_\d+)?(?=_)", 32, (0.75, 1.0))
_DENSENET = Family("DenseNet", "torch", "relu", r"^conv\d_block\d+")
_NASNET = Family("NASNet", "tf", "features", r"^(?:separable|normal|reduction|adjust)\w*?_((?:stem_|reduce_)?\d+)$")
_EFFICIENTNET = Family("EfficientNet", "inside", "top_activation", r"^block\d+[a-z]")
_EFFICIENTNET_V2 = Family("EfficientNetV2", "inside", "top_activation", r"^block\d+[a-z]")
_CONVNEXT = Family("ConvNeXt", "inside", "features", r"stage_\d+_block_\d+", pooled_norm=True)


def _weights(folder: str, stem: str) -> str:
    return f"{_TENSORFLOW}{folder}/{stem}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _efficientnet_v2(size: str) -> str:
    return f"{_TENSORFLOW}efficientnet_v2/efficientnetv2-{size}_notop.h5"


# fmt: off
_ROWS = (
    Backbone("VGG16", _VGG, 224, 512, 138.4, _weights("vgg16", "vgg16"), "6d6bbae143d832006294945121d1f1fc"),
    Backbone("VGG19", _VGG, 224, 512, 143.7, _weights("vgg19", "vgg19"), "253f8cb515780f3b799900260a226db6",
             own_cam_layer="block5_conv4"),
    Backbone("ResNet18", _RESNET_TORCH, 224, 512, 11.7, own_cam_layer="conv5_block2_out"),
    Backbone("ResNet34", _RESNET_TORCH, 224, 512, 21.8),
    Backbone("ResNet50", _RESNET, 224, 2048, 25.6, _weights("resnet", "resnet50"), "4d473c1dd8becc155b73f8504c6f6626"),
    Backbone("ResNet101", _RESNET, 224, 2048, 44.7, _weights("resnet", "resnet101"), "88cf7a10940856eca736dc7b7e228a21"),
    Backbone("ResNet152", _RESNET, 224, 2048, 60.4, _weights("resnet", "resnet152"), "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    Backbone("ResNet50V2", _RESNET_V2, 224, 2048, 25.6, _weights("resnet", "resnet50v2"), "fac2f116257151a9d068a22e544a4917"),
    Backbone("ResNet101V2", _RESNET_V2, 224, 2048, 44.7, _weights("resnet", "resnet101v2"), "c0ed64b8031c3730f411d2eb4eea35b5"),
    Backbone("ResNet152V2", _RESNET_V2, 224, 2048, 60.4, _weights("resnet", "resnet152v2"), "ed17cf2e0169df9d443503ef94b23b33"),
    Backbone("Xception", _XCEPTION, 299, 2048, 22.9, _weights("xception", "xception"), "b0042744bf5b25fce3cb969f33bebb97"),
    Backbone("InceptionV3", _INCEPTION, 299, 2048, 23.9, _weights("inception_v3", "inception_v3"),
             "bcbd6486424b2319ff4ef7d526e38f63", auxiliary_layer="mixed7"),
    Backbone("InceptionResNetV2", _INCEPTION_RESNET, 299, 1536, 55.9, _weights("inception_resnet_v2", "inception_resnet_v2"),
             "d19885ff4a710c122648d3b5c3b684e4"),
    Backbone("MobileNet", _MOBILENET, 224, 1024, 4.3, _TENSORFLOW + "mobilenet/mobilenet_{tenths}_{size}_tf_no_top.h5"),
    Backbone("MobileNetV2", _MOBILENET_V2, 224, 1280, 3.5,
             _TENSORFLOW + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top.h5"),
    Backbone("MobileNetV3Small", _MOBILENET_V3, 224, 576, 2.5,
             _TENSORFLOW + "mobilenet_v3/weights_mobilenet_v3_small_224_{alpha}_float_no_top_v2.h5",
             "d3e8ec802a04aa4fc771ee12a9a9b836"),
    Backbone("MobileNetV3Large", _MOBILENET_V3, 224, 960, 5.4,
             _TENSORFLOW + "mobilenet_v3/weights_mobilenet_v3_large_224_{alpha}_float_no_top_v2.h5",
             "07fb09a5933dd0c8eaafa16978110389"),
    Backbone("DenseNet121", _DENSENET, 224, 1024, 8.1, _weights("densenet", "densenet121"), "30ee3e1110167f948a6b9946edeeb738"),
    Backbone("DenseNet169", _DENSENET, 224, 1664, 14.3, _weights("densenet", "densenet169"), "b8c4d4c20dd625c148057b9ff1c1176b"),
    Backbone("DenseNet201", _DENSENET, 224, 1920, 20.2, _weights("densenet", "densenet201"), "c13680b51ded0fb44dff2d8f86ac8bb1"),
    Backbone("NASNetMobile", _NASNET, 224, 1056, 5.3, _TENSORFLOW + "nasnet/NASNet-mobile-no-top.h5",
             "1ed92395b5b598bdda52abe5c0dbfd63", "nasnet_mobile_no_top.h5"),
    Backbone("NASNetLarge", _NASNET, 331, 4032, 88.9, _TENSORFLOW + "nasnet/NASNet-large-no-top.h5",
             "d81d89dc07e6e56530c4e77faddd61b5", "nasnet_large_no_top.h5"),
    Backbone("EfficientNetB0", _EFFICIENTNET, 224, 1280, 5.3, "keras-applications/efficientnetb0_notop.h5",
             "50bc09e76180e00e4465e1a485ddc09d"),
    Backbone("EfficientNetB1", _EFFICIENTNET, 240, 1280, 7.9, "keras-applications/efficientnetb1_notop.h5",
             "74c4e6b3e1f6a1eea24c589628592432"),
    Backbone("EfficientNetB2", _EFFICIENTNET, 260, 1408, 9.2, "keras-applications/efficientnetb2_notop.h5",
             "111f8e2ac8aa800a7a99e3239f7bfb39"),
    Backbone("EfficientNetB3", _EFFICIENTNET, 300, 1536, 12.3, "keras-applications/efficientnetb3_notop.h5",
             "af6d107764bb5b1abb91932881670226"),
    Backbone("EfficientNetB4", _EFFICIENTNET, 380, 1792, 19.5, "keras-applications/efficientnetb4_notop.h5",
             "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    Backbone("EfficientNetB5", _EFFICIENTNET, 456, 2048, 30.6, "keras-applications/efficientnetb5_notop.h5",
             "38879255a25d3c92d5e44e04ae6cec6f"),
    Backbone("EfficientNetB6", _EFFICIENTNET, 528, 2304, 43.3, "keras-applications/efficientnetb6_notop.h5",
             "9ecce42647a20130c1f39a5d4cb75743"),
    Backbone("EfficientNetB7", _EFFICIENTNET, 600, 2560, 66.7, "keras-applications/efficientnetb7_notop.h5",
             "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    Backbone("EfficientNetV2B0", _EFFICIENTNET_V2, 224, 1280, 7.2, _efficientnet_v2("b0"), "893217f2bb855e2983157299931e43ff"),
    Backbone("EfficientNetV2B1", _EFFICIENTNET_V2, 240, 1280, 8.2, _efficientnet_v2("b1"), "0e80663031ca32d657f9caa404b6ec37"),
    Backbone("EfficientNetV2B2", _EFFICIENTNET_V2, 260, 1408, 10.2, _efficientnet_v2("b2"), "1dfe2e7a5d45b6632553a8961ea609eb"),
    Backbone("EfficientNetV2B3", _EFFICIENTNET_V2, 300, 1536, 14.5, _efficientnet_v2("b3"), "f6abf7b5849ac99a89b50dd3fd532856"),
    Backbone("EfficientNetV2S", _EFFICIENTNET_V2, 384, 1280, 21.6, _efficientnet_v2("s"), "af0682fb74e8c54910f2d4393339c070"),
    Backbone("EfficientNetV2M", _EFFICIENTNET_V2, 480, 1280, 54.4, _efficientnet_v2("m"), "1b8dc055df72dde80d614482840fe342"),
    Backbone("EfficientNetV2L", _EFFICIENTNET_V2, 480, 1280, 119.0, _efficientnet_v2("l"), "b0b66b5c863aef5b46e8608fe1711615"),
    Backbone("ConvNeXtTiny", _CONVNEXT, 224, 768, 28.6, _TENSORFLOW + "convnext/convnext_tiny_notop.h5",
             "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"),
    Backbone("ConvNeXtSmall", _CONVNEXT, 224, 768, 50.2, _TENSORFLOW + "convnext/convnext_small_notop.h5",
             "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab"),
    Backbone("ConvNeXtBase", _CONVNEXT, 224, 1024, 88.5, _TENSORFLOW + "convnext/convnext_base_notop.h5",
             "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45"),
    Backbone("ConvNeXtLarge", _CONVNEXT, 224, 1536, 197.7, _TENSORFLOW + "convnext/convnext_large_notop.h5",
             "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd"),
    Backbone("ConvNeXtXLarge", _CONVNEXT, 224, 2048, 350.1, _TENSORFLOW + "convnext/convnext_xlarge_notop.h5",
             "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05"),
)
# fmt: on

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}
