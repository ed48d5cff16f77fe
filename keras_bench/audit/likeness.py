"""Compares images whose perceptual hashes are close: are they copies of one picture, or do they only look alike?"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

PositionPair = tuple[int, int]

# imagehash.phash reduces every image to this side in pixels; smaller images have too little detail to be compared.
HASHED_SIDE = 32
COMPARED_SIDE = 16  # after averaging 2×2 pixels, which largely cancels JPEG artefacts of small images
# Measured on pairs whose hashes differ in at most 6 of 64 bits. 2,000 photographs of Tiny ImageNet against copies of
# their own: of JPEG quality 50, 99.95 % lie above this; of half the size, all; 30 % darker, all; 20 and 30 % brighter,
# 99.4 and 97.0 % of those the hash finds; halved to 32 pixels, of JPEG quality 50 and 30 % brighter or darker all at
# once, 86 and 89 %. Different scans of scikit-learn's digits, enlarged to 64 pixels: none of 378 pairs where each pixel
# is repeated, 1 of 365, 400 and 464 where they are enlarged bilinearly, bicubically and by Lanczos; above 0.985 lie 0,
# 13, 4 and 5. The most alike of 118 different photographs of Tiny ImageNet within 10 bits reach 0.956.
MIN_LIKENESS = 0.99
# Gray levels beyond these may have been clipped by brightening or darkening, and are left out of the fit.
DARK, BRIGHT = 16.0, 239.0
MIN_UNCLIPPED_LEVELS = 16  # gray levels between them, of 256, that a fit needs
KEPT_REDUCTIONS = 1 << 16  # of candidates only, 1 KB each; evicted ones are recomputed when needed
PAIRS_PER_BLOCK = 512  # pairs compared at a time, 60 µs each


def gray_reduction(pixels: np.ndarray) -> Image.Image:
    """Return the 32×32 gray image from which a perceptual hash is computed, as in imagehash.phash.

    Args:
        pixels: uint8, (height, width, 3), RGB in [0, 255].
    """
    return Image.fromarray(pixels).convert("L").resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.LANCZOS)


def compared_levels(pixels: np.ndarray) -> np.ndarray:
    """Return the gray levels of an image's 16×16 reduction, by which two images are compared.

    Args:
        pixels: uint8, (height, width, 3), RGB in [0, 255].

    Returns:
        float32, (256,), in [0, 255].
    """
    step = HASHED_SIDE // COMPARED_SIDE
    gray = np.asarray(gray_reduction(pixels), dtype=np.float32)
    return gray.reshape(COMPARED_SIDE, step, COMPARED_SIDE, step).mean(axis=(1, 3)).ravel()


def copies(pairs: Sequence[PositionPair], levels: Callable[[int], np.ndarray]) -> list[PositionPair]:
    """Return the candidate pairs that are copies of one picture, in order.

    Args:
        pairs: positions of images whose hashes are close.
        levels: returns the `compared_levels` of the image at a position; called for candidates only.
    """
    cached_levels = lru_cache(KEPT_REDUCTIONS)(levels)
    confirmed: list[PositionPair] = []
    for start in range(0, len(pairs), PAIRS_PER_BLOCK):
        block = pairs[start : start + PAIRS_PER_BLOCK]
        first, second = (np.stack([cached_levels(pair[side]) for pair in block]) for side in (0, 1))
        are_copies = likeness(first, second) >= MIN_LIKENESS
        confirmed += [pair for pair, is_copy in zip(block, are_copies, strict=True) if is_copy]
    return confirmed


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the similarity of each pair of images, irrespective of brightness and contrast.

    The correlation of gray levels does not depend on brightness and contrast as long as no level is clipped at 0 or
    255. Each image is therefore also predicted from the other by a line fitted to the levels that are not clipped, and
    the prediction is clipped likewise; the highest of the three correlations counts.

    Args:
        first: float32, (pairs, levels), gray levels in [0, 255].
        second: the other image of each pair, likewise.

    Returns:
        float32, (pairs,), in [-1, 1]; 0 for an image with a single gray level.
    """
    return np.maximum.reduce(
        [
            _correlation(first, second),
            _correlation(_predicted(first, second), second),
            _correlation(_predicted(second, first), first),
        ]
    )


def _predicted(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the target's gray levels predicted from the source's by a rising line, clipped at 0 and 255."""
    used = (target > DARK) & (target < BRIGHT)
    count = np.maximum(used.sum(axis=1, keepdims=True), 1)
    source_mean, target_mean = (np.sum(x * used, axis=1, keepdims=True) / count for x in (source, target))
    source_deviation, target_deviation = (source - source_mean) * used, target - target_mean
    variance = np.sum(source_deviation**2, axis=1, keepdims=True)
    gain = np.sum(source_deviation * target_deviation, axis=1, keepdims=True) / np.maximum(variance, 1e-6)
    fitted = np.clip(target_mean + gain * (source - source_mean), 0, 255)
    return np.where((count >= MIN_UNCLIPPED_LEVELS) & (gain > 0), fitted, source)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row, 0 if a row is constant."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (first, second))
    scale = np.sqrt(np.sum(a * a, axis=1) * np.sum(b * b, axis=1))
    return np.where(scale > 1e-3, np.sum(a * b, axis=1) / np.maximum(scale, 1e-3), 0.0)
