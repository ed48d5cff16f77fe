"""Damaged images: pixels or UnreadableImageError, within limits, from the decoder and from its copy in bundles."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest

from keras_bench.export.runner import write_runner
from keras_bench.images import UnreadableImageError, decode
from tests import fuzz_images
from tests.fuzz_images import MAX_BYTES, MAX_SECONDS, damaged_file, examine, fuzz
from tests.image_files import files_of_every_kind

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
    pytest.mark.filterwarnings("ignore"),  # Pillow's, which the decoder silences outside of pytest
]


def test_a_few_hundred_damaged_images_are_decoded_or_unreadable():
    outcome = examine(range(300), seed=1)
    assert outcome.failures == []
    assert outcome.count == 300
    assert 30 < outcome.read < 270  # neither spared nor destroyed by the damage


@pytest.mark.slow
def test_two_thousand_damaged_images_in_processes_with_limits():
    outcome = fuzz(2000, seed=0, workers=2)
    assert outcome.failures == []
    assert outcome.count == 2000
    assert outcome.slowest[0] < MAX_SECONDS
    assert outcome.largest[0] < MAX_BYTES


def test_the_fuzzer_sees_other_exceptions_slow_and_large_images(monkeypatch):
    def fail(content):
        raise KeyError("tag")

    assert examine([7], 0, [fail]).failures[0][1].endswith("fail raised KeyError: 'tag'")
    size = fuzz_images._peak_bytes()  # more than this process has had in use
    large = examine([7], 0, [lambda content: np.ones(size, np.uint8).sum()])
    assert large.largest[0] > 0.9 * size  # the kernel counts in batches
    assert len(large.failures) == (size > MAX_BYTES)
    size = fuzz_images._peak_bytes()
    monkeypatch.setattr(fuzz_images, "MAX_BYTES", 10 << 20)
    assert len(examine([7], 0, [lambda content: np.ones(size, np.uint8).sum()]).failures) == 1
    monkeypatch.setattr(fuzz_images, "MAX_SECONDS", 0.0)
    assert len(examine([7], 0, [len]).failures) == 1


def test_the_bundles_runner_reads_exactly_what_the_decoder_reads(tmp_path):
    write_runner(tmp_path)
    spec = importlib.util.spec_from_file_location("predict_of_a_bundle", tmp_path / "predict.py")
    runner = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        spec.loader.exec_module(runner)
    originals = files_of_every_kind()
    contents = [*originals.values(), *(damaged_file(number, 2, originals)[1] for number in range(200))]
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        received = runner._decode_file(str(path), runner.MAX_MEGAPIXELS)
        try:
            np.testing.assert_array_equal(received, decode(content))
        except UnreadableImageError as error:
            assert isinstance(received, runner.UnreadableImageError)
            assert str(received) == str(error)  # noqa: PT017
