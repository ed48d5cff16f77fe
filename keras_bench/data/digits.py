"""The 1,797 real scans of handwritten digits bundled with scikit-learn: a source that needs no network."""

import numpy as np
from sklearn.datasets import load_digits

from keras_bench.data.index import ImageIndex
from keras_bench.images import encode_png


def open_digits() -> ImageIndex:
    """List the digits as 8×8 grayscale PNG images in ten classes named "0" to "9", without official splits.

    The scans have 17 gray levels, 0 to 16, which are scaled to 0 to 255 (Alpaydin and Kaynak, UCI 1998).
    """
    scans = load_digits()
    gray = np.round(scans.images * (255 / 16)).astype(np.uint8)
    encoded = [encode_png(image) for image in gray]
    names = tuple(str(digit) for digit in range(10))
    return ImageIndex(
        source="digits",
        location="the digits bundled with scikit-learn",
        class_names=names,
        class_titles=names,
        ids=tuple(f"{label}/{i:04d}.png" for i, label in enumerate(scans.target)),
        labels=scans.target.astype(np.int64),
        official=("",) * len(encoded),
        read=encoded.__getitem__,
    )
