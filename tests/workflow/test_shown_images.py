"""When the images that the report shows are made again: never half of them, and not those of earlier versions."""

from types import SimpleNamespace

from keras_bench.workflow.shown_images import images_missing
from tests.made import make_run


def test_thumbnails_that_a_killed_process_did_not_finish_are_missing(tmp_path):
    run = make_run(tmp_path, "MobileNet", skills=(("tl", 1.0),))
    job = SimpleNamespace(folder=run, phases=("tl",))
    assert run.cost.is_file()
    assert not run.shown_images.exists()
    assert not images_missing(job)  # an earlier version made all of them before cost.json, and kept no record
    run.cost.unlink()
    assert images_missing(job)
