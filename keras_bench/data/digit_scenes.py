"""Handwritten digits on photographs, composed of what scikit-learn bundles: a source with boxes, without a network.

Each of the 1,797 real scans of digits is drawn once, in white, at a random place and size, over a random crop of one of
two darkened photographs. Crops may overlap, also between splits, but they are drawn without regard to the digit: a
background says nothing about the label.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from keras_bench.data.index import ImageIndex
from keras_bench.images import encode_bmp

SCENE_SIDE = 96  # pixels
DIGIT_SIDES = (40, 60)  # smallest and largest side of a digit, pixels: 17 to 39 % of the scene
BRIGHTNESS = 0.35  # of the photographs, so that white stands out everywhere
SEED = 0
ATTRIBUTION = (
    "Photographs china.jpg by danielbuechele and flower.jpg by vultilion (flickr.com), CC BY 2.0, cropped, darkened "
    "and overlaid with digits by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998)."
)


@dataclass(frozen=True)
class Layout:
    """Where a scene's digit and background are.

    Attributes:
        left: of the digit's square in the scene, pixels.
        top: of the digit's square in the scene, pixels.
        side: of the digit's square, pixels.
        photograph: which of the photographs.
        x: left edge of the crop in the photograph, pixels.
        y: top edge of the crop in the photograph, pixels.
    """

    left: int
    top: int
    side: int
    photograph: int
    x: int
    y: int


def open_digit_scenes() -> ImageIndex:
    """List the scenes: 1,797 BMP images of 96×96 pixels in ten classes named "0" to "9", without official splits.

    A scene depends on nothing but its position in the list, so it is the same in every run and on every machine.
    """
    scans = load_digits()
    layouts = [_layout(position) for position in range(len(scans.target))]
    names = tuple(str(digit) for digit in range(10))
    return ImageIndex(
        source="digit-scenes",
        location="digits on photographs, both bundled with scikit-learn",
        class_names=names,
        class_titles=names,
        ids=tuple(f"{label}/{i:04d}.bmp" for i, label in enumerate(scans.target)),
        labels=scans.target.astype(np.int64),
        official=("",) * len(layouts),
        # Unlike PNG, whose bytes depend on the version of zlib, BMP gives every machine the same fingerprint.
        read=lambda i: encode_bmp(_compose(scans.images[i], layouts[i])),
        boxes=np.array([(p.left, p.top, p.left + p.side, p.top + p.side) for p in layouts], dtype=np.float32),
        attribution=ATTRIBUTION,
    )


def _layout(position: int) -> Layout:
    rng = np.random.default_rng([SEED, position])
    side = int(rng.integers(DIGIT_SIDES[0], DIGIT_SIDES[1], endpoint=True))
    left, top = rng.integers(0, SCENE_SIDE - side, size=2, endpoint=True).tolist()
    photographs = _photographs()
    photograph = int(rng.integers(len(photographs)))
    height, width, _ = photographs[photograph].shape
    x, y = rng.integers(0, (width - SCENE_SIDE, height - SCENE_SIDE), endpoint=True).tolist()
    return Layout(left, top, side, photograph, x, y)


def _compose(scan: np.ndarray, layout: Layout) -> np.ndarray:
    """Return a scene.

    Args:
        scan: float64, (8, 8), amount of ink in [0, 16].
        layout: where its digit and background are.

    Returns:
        uint8, (96, 96, 3), RGB in [0, 255].
    """
    crop = _photographs()[layout.photograph][layout.y : layout.y + SCENE_SIDE, layout.x : layout.x + SCENE_SIDE]
    scene = crop * BRIGHTNESS
    gray = Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8))
    enlarged = gray.resize((layout.side, layout.side), Image.Resampling.BICUBIC)
    ink = np.asarray(enlarged, dtype=np.float64)[..., np.newaxis] / 255
    digit = scene[layout.top : layout.top + layout.side, layout.left : layout.left + layout.side]
    digit += ink * (255 - digit)
    return np.round(scene).astype(np.uint8)


@cache
def _photographs() -> tuple[np.ndarray, ...]:
    """Return the photographs, uint8, (427, 640, 3) each, RGB in [0, 255]."""
    return tuple(load_sample_images().images)
