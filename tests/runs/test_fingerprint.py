"""Whether a finished phase is still valid if the version that trained it had fewer, more or other settings."""

import pytest

from keras_bench.errors import UserError
from keras_bench.export.places import made_of
from keras_bench.files import write_json
from keras_bench.runs.fingerprint import changed_settings, finished_phases, phase_inputs
from keras_bench.runs.job import Request, resolve
from tests.made import make_training

MONITORS_BEFORE = ("training.checkpoint_monitor=val_top1", "training.early_stopping_monitor=val_cross_entropy")


def job_of(out, *settings):
    weights = ("model.weights=none", "model.alpha=0.25")
    return resolve(Request("digits", "MobileNet", "tl", out=out, settings=(*weights, *settings)))


@pytest.fixture
def trained(tmp_path):
    """Return a function that writes a finished tl phase with today's inputs, some removed or added."""

    def train(*settings, without=(), more=None):
        job = job_of(tmp_path, *settings)
        inputs = phase_inputs(job, "tl", "data", "none")
        inputs = {key: value for key, value in inputs.items() if key not in without} | (more or {})
        make_training(job.folder, (("tl", 1.0),), inputs={"tl": inputs})

    return train


def done(out, *settings):
    job = job_of(out, *settings)
    return finished_phases(job, {"tl": phase_inputs(job, "tl", "data", "none")})


def test_a_setting_that_did_not_exist_yet_had_its_default_value(trained, tmp_path):
    trained(without=("training.focal_gamma", "augmentation.brightness_factor", "tl.views", "model.alpha"))
    with pytest.raises(UserError, match=r"model\.alpha was None \(not a setting then\), is now 0\.25\. Keep both"):
        done(tmp_path)
    trained(without=("training.focal_gamma", "augmentation.brightness_factor", "tl.views"))
    assert done(tmp_path) == ["tl"]
    with pytest.raises(UserError, match=r"tl\.views was 4 \(not a setting then\), is now 2"):
        done(tmp_path, "tl.views=2")


def test_earlier_versions_trained_with_tensorflows_default_precision(trained, tmp_path):
    trained(without=("training.tf32",))
    assert done(tmp_path) == ["tl"]
    with pytest.raises(UserError, match=r"training\.tf32 was True \(not a setting then\), is now False"):
        done(tmp_path, "training.tf32=false")


def test_earlier_behaviour_is_not_always_todays_default(trained, tmp_path):
    trained(without=("dataset.remove_leaked", "tl.features"))
    with pytest.raises(
        UserError, match=r"remove_leaked was none \(not a setting then\), is now near; tl\.features was"
    ):
        done(tmp_path)
    assert done(tmp_path, "dataset.remove_leaked=none", "tl.features=streamed") == ["tl"]


def test_a_renamed_setting_keeps_its_meaning(trained, tmp_path):
    trained(without=("training.imbalance",), more={"training.class_weights": "balanced"})
    assert done(tmp_path, "training.imbalance=class_weights", *MONITORS_BEFORE) == ["tl"]
    with pytest.raises(UserError, match=r"training\.imbalance was class_weights, is now none"):
        done(tmp_path)
    trained(without=("training.imbalance",), more={"training.class_weights": "none"})
    assert done(tmp_path) == ["tl"]


def test_auto_equals_the_monitor_it_resolves_to_and_another_one_is_a_change(trained, tmp_path):
    before = {"training.early_stopping_monitor": "val_cross_entropy", "training.checkpoint_monitor": "val_top1"}
    trained(more=before)
    assert done(tmp_path) == done(tmp_path, *MONITORS_BEFORE) == ["tl"]
    trained(without=tuple(before))  # written before monitors could be chosen
    assert done(tmp_path) == ["tl"]
    trained("training.imbalance=oversample", more=before)
    assert done(tmp_path, "training.imbalance=oversample", *MONITORS_BEFORE) == ["tl"]
    with pytest.raises(UserError, match=r"training\.checkpoint_monitor was val_top1, is now val_balanced_accuracy"):
        done(tmp_path, "training.imbalance=oversample")


def test_a_setting_that_no_longer_exists_or_has_another_value_is_a_change(trained, tmp_path):
    trained(more={"training.sharpness": 0.0})
    with pytest.raises(
        UserError, match=r"finished with other settings: training\.sharpness was 0\.0, is now not set\."
    ):
        done(tmp_path)
    trained("model.dropout=0.5")
    with pytest.raises(UserError, match=r"model\.dropout was 0\.5, is now 0\.[0-4]"):
        done(tmp_path)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_former_momentum_of_0_9_is_a_change_for_rmsprop_only(trained, tmp_path, optimizer):
    trained(f"tl.optimizer={optimizer}", more={"tl.momentum": 0.9})
    assert done(tmp_path, f"tl.optimizer={optimizer}") == ["tl"]
    assert done(tmp_path, f"tl.optimizer={optimizer}", "tl.momentum=0.9") == ["tl"]
    trained("tl.optimizer=rmsprop", more={"tl.momentum": 0.9})
    with pytest.raises(UserError, match=r"other settings: tl\.momentum was 0\.9, is now 0\.0\. Keep both"):
        done(tmp_path, "tl.optimizer=rmsprop")
    assert done(tmp_path, "tl.optimizer=rmsprop", "tl.momentum=0.9") == ["tl"]


def test_fine_tuning_depends_on_the_momentum_of_both_phases(tmp_path):
    job = job_of(tmp_path, "tl.optimizer=rmsprop", "ft.optimizer=sgd", "ft.momentum=0.5")
    inputs = phase_inputs(job, "ft", "data", "none")
    assert (inputs["tl.momentum"], inputs["ft.momentum"]) == (0.0, 0.5)
    assert "tl.momentum" not in phase_inputs(job, "scratch", "data", "none")


def test_an_interrupted_phase_is_compared_in_the_same_way(trained, tmp_path):
    trained()
    job = job_of(tmp_path)
    inputs = phase_inputs(job, "tl", "data", "none")
    job.folder.result("tl").unlink()
    state = job.folder.state("tl") / "epoch0001.json"
    write_json(state, {"inputs": {key: value for key, value in inputs.items() if key != "training.focal_gamma"}})
    assert done(tmp_path) == []
    with pytest.raises(UserError, match=r"started with other settings: training\.focal_gamma was 2\.0 \(not a setting"):
        done(tmp_path, "training.focal_gamma=3.0")
    state.write_text('{"epochs": 1')  # the phase will start over
    assert done(tmp_path, "training.focal_gamma=3.0") == []


def test_a_key_without_a_default_counts_as_changed():
    assert changed_settings({}, {"layer": None}, {}) == ["layer was not set (not a setting then), is now None"]
    assert changed_settings({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}) == []


def test_a_bundle_is_rebuilt_only_if_one_of_its_settings_changed(tmp_path):
    job = job_of(tmp_path)
    job.folder.model("tl").parent.mkdir(parents=True)
    job.folder.model("tl").write_bytes(b"weights")
    now = made_of(job, "tl")
    defaults = type(job.config.export)().model_dump(mode="json")
    before = {key: value for key, value in now.items() if key != "int8_val_images"}
    assert changed_settings(before, now, defaults) == []
    assert changed_settings({**before, "model_sha256": ""}, now, defaults)


@pytest.mark.parametrize(
    ("model", "settings", "is_hinted"),
    [
        ("MobileNet", ["dataset.image_size=128"], True),
        ("MobileNet", ["dataset.image_size=128", "model.weights_size=128"], False),  # the user chose
        ("MobileNet", ["dataset.image_size=224"], False),  # takes those for 224 pixels anyway
        ("MobileNetV2", ["dataset.image_size=128", "model.alpha=1.4"], False),  # has them for 224 pixels only
        ("VGG16", ["dataset.image_size=128"], False),  # one file serves all sizes
    ],
)
def test_for_a_backbone_with_several_weights_sizes_the_refusal_says_how_to_select_the_former_ones(
    tmp_path, model, settings, is_hinted
):
    job = resolve(Request("digits", model, "tl", out=tmp_path, settings=tuple(settings)))
    before, now = (phase_inputs(job, "tl", "data", weights) for weights in ("of 224", "of today"))
    make_training(job.folder, (("tl", 1.0),), inputs={"tl": before})
    with pytest.raises(UserError, match="weights was of 224, is now of today") as refusal:
        finished_phases(job, {"tl": now})
    assert str(refusal.value).endswith("--set model.weights_size=224") == is_hinted
    assert ("weights_size" in str(refusal.value)) == is_hinted
    with pytest.raises(UserError, match="seed was 0, is now 1") as refusal:
        finished_phases(job, {"tl": before | {"seed": 1}})
    assert "weights_size" not in str(refusal.value)
