import json

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.digit_scenes import BRIGHTNESS
from keras_bench.data.index import ImageIndex
from keras_bench.data.sources import open_source
from keras_bench.images import decode
from keras_bench.runs.data import load_data, open_data, write_data_files
from keras_bench.runs.job import Request, resolve


def scenes(*classes: str) -> ImageIndex:
    return open_source(DatasetConfig(source="digit-scenes", classes=classes or None), None, Log())


def test_each_scan_is_in_one_scene():
    index = scenes()
    assert len(index.ids) == len(set(index.ids)) == 1797
    np.testing.assert_array_equal(index.labels, load_digits().target)
    assert index.ids[3] == "3/0003.bmp"
    assert set(index.official) == {""}


def test_a_scene_is_a_darkened_photograph_but_for_its_box():
    index = scenes()
    photographs = [np.round(photograph * BRIGHTNESS) for photograph in load_sample_images().images]
    for position in range(12):
        scene = decode(index.read(position)).astype(float)
        assert scene.shape == (96, 96, 3)
        left, top, right, bottom = index.boxes[position].astype(int)
        assert 40 <= right - left == bottom - top <= 60
        assert min(left, top) >= 0
        assert max(right, bottom) <= 96
        outside = np.ones((96, 96), dtype=bool)
        outside[top:bottom, left:right] = False
        assert scene[outside].max() <= round(255 * BRIGHTNESS)
        assert any(appears_in(photograph, scene, outside) for photograph in photographs)


def appears_in(photograph: np.ndarray, scene: np.ndarray, outside: np.ndarray) -> bool:
    """Return whether the pixels of a scene outside its box are those of some crop of a photograph."""
    rows, columns = np.nonzero(outside)
    windows = np.lib.stride_tricks.sliding_window_view(photograph, scene.shape)[:, :, 0]
    candidates = np.argwhere(np.all(windows[:, :, rows[0], columns[0]] == scene[rows[0], columns[0]], axis=-1))
    return any((windows[y, x][outside] == scene[outside]).all() for y, x in candidates)


def test_a_scene_shows_its_scan_in_its_box():
    index, scans = scenes(), load_digits().images
    for position in range(12):
        left, top, right, bottom = index.boxes[position].astype(int)
        digit = decode(index.read(position))[top:bottom, left:right].mean(axis=-1)
        centres = ((np.arange(8) + 0.5) * (right - left) / 8).astype(int)
        shown = digit[np.ix_(centres, centres)]
        assert np.corrcoef(shown.ravel(), scans[position].ravel())[0, 1] > 0.9
        assert shown[scans[position] >= 14].mean() > 200


def test_a_scene_is_the_same_each_time_and_with_fewer_classes():
    everything, few = scenes(), scenes("7", "9")
    position = everything.ids.index(few.ids[5])
    assert few.read(5) == everything.read(position) == scenes().read(position)
    np.testing.assert_array_equal(few.boxes[5], everything.boxes[position])


def test_places_sizes_and_photographs_do_not_depend_on_the_digit():
    index = scenes()
    boxes = index.boxes
    share = (boxes[:, 2] - boxes[:, 0]) ** 2 / 96**2
    assert 0.17 < share.min() < share.mean() < 0.3 < share.max() < 0.4
    for centre in ((boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2):
        means = [centre[index.labels == label].mean() for label in range(10)]
        np.testing.assert_allclose(means, 48, atol=3)


def test_the_authors_of_the_photographs_and_digits_are_recorded_with_each_run(tmp_path):
    scenes, digits = (recorded_attribution(source, tmp_path / source) for source in ("digit-scenes", "digits"))
    assert digits is None
    assert all(name in scenes for name in ("danielbuechele", "vultilion", "CC BY 2.0", "Alpaydin", "Kaynak"))


def recorded_attribution(source, out):
    settings = (f"dataset.source={source}", 'dataset.classes=["0", "1"]', "dataset.limit_per_class=4")
    job = resolve(Request("digits", "MobileNet", "scratch", settings=settings, out=out))
    write_data_files(job.folder, load_data(job, *open_data(job, Log()), Log()))
    return json.loads(job.folder.dataset.read_text()).get("attribution")
