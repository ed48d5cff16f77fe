"""Images with close hashes: copies of photographs are confirmed, different scans that look alike are not."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from keras_bench.audit.duplicates import NEAR_DISTANCE
from keras_bench.audit.likeness import MIN_LIKENESS, compared_levels, copies, likeness
from tests.conftest import digits, encoded


def windows(side=160):
    """Pieces of two real photographs, a building and a flower, that are bundled with scikit-learn."""
    pieces = []
    for photograph in load_sample_images().images:
        for top in range(0, photograph.shape[0] - side, side):
            for left in range(0, photograph.shape[1] - side, side):
                pieces.append(Image.fromarray(photograph[top : top + side, left : left + side]))
    return pieces


def bits_apart(first, second):
    return imagehash.phash(first) - imagehash.phash(second)


def likeness_of(first, second):
    levels = [compared_levels(np.asarray(image.convert("RGB")))[None] for image in (first, second)]
    return float(likeness(*levels)[0])


ALTERATIONS = {
    "saved again": lambda image: Image.open(io.BytesIO(encoded(image, quality=50))),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_altered_copies_of_photographs_are_copies(alter):
    pairs = [(piece, alter(piece)) for piece in windows()]
    likenesses = [likeness_of(*pair) for pair in pairs if bits_apart(*pair) <= NEAR_DISTANCE]
    assert len(likenesses) >= 10  # of 12; brightening turns most of the sky white and so changes its hash
    assert min(likenesses) >= MIN_LIKENESS


def test_different_photographs_are_not_copies():
    pieces = windows()
    assert max(likeness_of(a, b) for i, a in enumerate(pieces) for b in pieces[:i]) < 0.9


@pytest.mark.parametrize("how", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
def test_different_scans_whose_hashes_are_close_are_not_copies(how):
    sixes = [
        Image.fromarray(np.round(scan * 255 / 16).astype(np.uint8)).resize((64, 64), how).convert("RGB")
        for scan in digits().images[digits().target == 6]
    ]
    hashes = [imagehash.phash(image) for image in sixes]
    close = [(j, i) for i in range(len(sixes)) for j in range(i) if hashes[i] - hashes[j] <= NEAR_DISTANCE]
    assert len(close) > 30  # the hash alone calls all of these near-duplicates
    assert len({scan.tobytes() for scan in sixes}) == len(sixes)  # and none of them is a copy
    assert copies(close, lambda place: compared_levels(np.asarray(sixes[place]))) == []


def test_likeness_is_pearsons_correlation_if_no_level_is_clipped():
    generator = np.random.default_rng(0)
    first, second = generator.uniform(60, 180, (2, 5, 256)).astype(np.float32)
    second += first
    second *= 0.5  # in 60 to 180 again
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(likeness(first, second), expected, atol=1e-5)
    np.testing.assert_allclose(likeness(second, first), expected, atol=1e-5)


def test_levels_clipped_by_brightening_or_darkening_do_not_lower_the_likeness_of_a_copy():
    first = np.random.default_rng(0).uniform(20, 220, (1, 256)).astype(np.float32)
    for gain, offset in ((2.0, 0), (1.0, 90), (1.5, -120)):
        second = np.clip(gain * first + offset, 0, 255)
        assert np.corrcoef(first[0], second[0])[0, 1] < MIN_LIKENESS
        assert likeness(first, second)[0] == pytest.approx(1.0, abs=1e-4)
        assert likeness(second, first)[0] == pytest.approx(1.0, abs=1e-4)


def test_a_negative_and_an_image_with_one_level_are_not_copies():
    first = np.random.default_rng(0).uniform(20, 220, (1, 256)).astype(np.float32)
    assert likeness(first, 240 - first)[0] < -0.99
    assert likeness(first, np.full_like(first, 100))[0] == 0


def test_only_candidates_are_reduced_each_once():
    images = np.random.default_rng(0).uniform(0, 255, (6, 256)).astype(np.float32)
    images[4] = images[1] * 0.8 + 10
    reduced = []

    def levels(position):
        reduced.append(position)
        return images[position]

    assert copies([(1, 4), (1, 5), (4, 5)], levels) == [(1, 4)]
    assert sorted(reduced) == [1, 4, 5]
    assert copies([], levels) == []


def test_the_levels_are_means_of_the_image_from_which_the_hash_is_computed():
    picture = windows()[0]
    small = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    expected = np.asarray(small, dtype=float)
    expected = (expected[::2, ::2] + expected[1::2, ::2] + expected[::2, 1::2] + expected[1::2, 1::2]) / 4
    np.testing.assert_allclose(compared_levels(np.asarray(picture)), expected.ravel())
    assert bits_apart(small, picture) == 0
