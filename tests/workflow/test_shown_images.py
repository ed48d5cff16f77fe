"""When the images that the report shows are made again: never half of them, and not those of other predictions."""

from types import SimpleNamespace

import pytest

from keras_bench.files import write_json, write_record
from keras_bench.runs.damage import FILES
from keras_bench.workflow.shown_images import MADE_OF, images_missing, made_of
from tests.made import make_run


@pytest.fixture
def run(tmp_path):
    """A finished run whose final phase is tl, with images that this version made."""
    run = make_run(tmp_path, "MobileNet", skills=[("ft", 1.0), ("tl", 2.5)])
    write_record(run.shown_images, {MADE_OF: made_of(run), FILES: {}})
    return run


def is_missing(run):
    return images_missing(SimpleNamespace(folder=run))


def test_images_of_another_phase_are_missing(run):
    assert not is_missing(run)
    write_json(run.run, {"phases": ["tl", "ft"], "final_phase": "ft"})
    assert is_missing(run)


def test_images_of_other_predictions_are_missing(run):
    run.predictions("tl", "test").write_bytes(run.predictions("ft", "test").read_bytes())
    assert is_missing(run)


def test_images_of_an_earlier_version_count_only_for_the_phase_that_they_show(run):
    run.shown_images.unlink()
    assert not is_missing(run)
    write_json(run.run, {"phases": ["tl", "ft"], "final_phase": "ft"})
    assert is_missing(run)


def test_thumbnails_that_a_killed_process_did_not_finish_are_missing(tmp_path):
    run = make_run(tmp_path, "MobileNet", skills=(("tl", 1.0),))
    job = SimpleNamespace(folder=run, phases=("tl",))
    assert run.cost.is_file()
    assert not run.shown_images.exists()
    assert not images_missing(job)  # an earlier version made all of them before cost.json, and kept no record
    run.cost.unlink()
    assert images_missing(job)
