from pathlib import Path

import pytest

from keras_bench.config import Config, describe, load_experiment, load_run_config, parse_setting, to_yaml
from keras_bench.errors import UserError
from tests.checks import check_head_comment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return str(path)


def resolve(tmp_path: Path, text: str, *settings: str, model: str = "VGG16") -> Config:
    return load_experiment(write(tmp_path, text)).resolve(model, [parse_setting(setting) for setting in settings])


def test_default_is_the_recipe_of_the_tiny_imagenet_study(tmp_path):
    config = resolve(tmp_path, "models: {VGG16: {}}")
    assert (config.tl.epochs, config.ft.epochs, config.tl.learning_rate, config.ft.learning_rate) == (15, 5, 1e-4, 1e-4)
    assert (config.model.dropout, config.model.l2, config.training.batch_size) == (0.3, 1e-4, 32)
    assert config.augmentation.horizontal_flip
    assert config.augmentation.rotation_degrees == 10
    assert config.name == "study"


def test_precedence_is_default_file_model_block_command_line(tmp_path):
    text = "tl: {epochs: 2}\ndataset: {image_size: 64}\nmodels: {VGG16: {}, InceptionV3: {dataset: {image_size: 299}}}"
    assert resolve(tmp_path, text).dataset.image_size == 64
    assert resolve(tmp_path, text, model="InceptionV3").dataset.image_size == 299
    assert resolve(tmp_path, text, "dataset.image_size=96", model="InceptionV3").dataset.image_size == 96
    assert resolve(tmp_path, text, "tl.epochs=3", "tl.epochs=4").tl.epochs == 4
    assert resolve(tmp_path, text).tl.learning_rate == 1e-4


def test_a_phase_keeps_its_own_defaults_when_a_file_changes_one_key(tmp_path):
    config = resolve(tmp_path, "ft: {learning_rate: 1.0e-5}\nscratch: {optimizer: sgd}\nmodels: {VGG16: {}}")
    assert config.ft.epochs == 5
    assert config.scratch.epochs == 30


def test_scientific_notation_without_a_point_is_a_number(tmp_path):
    # YAML 1.1 readers take 1e-4 for text.
    assert resolve(tmp_path, "tl: {learning_rate: 1e-3}\nmodels: {VGG16: {}}").tl.learning_rate == 1e-3
    assert resolve(tmp_path, "models: {VGG16: {}}", "tl.learning_rate=5e-4").tl.learning_rate == 5e-4
    assert resolve(tmp_path, "models: {VGG16: {}}", "training.xla=off").training.xla == "off"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("tl: {epoch: 3}", [], r"study.yaml: tl.epoch: unknown key 'epoch'; did you mean 'epochs'"),
        ("trainig: {batch_size: 3}", [], r"study.yaml: trainig: unknown key 'trainig'; did you mean 'training'"),
        ("{}", ["dataset.imagesize=96"], r"--set dataset.imagesize=96: .*did you mean 'image_size'"),
        ("tl: {epochs: three}", [], r"study.yaml: tl.epochs: expected a whole number.*received 'three'"),
        ("tl: {epochs: 0}", [], r"study.yaml: tl.epochs: expected a whole number of at least 1 and .*received 0"),
        (
            "{}",
            ["model.dropout=1.5"],
            r"--set model.dropout=1.5: model.dropout: expected a number of at least 0 and less than 1 ",
        ),
        ("{}", ["tl.epochs=2.5"], r"expected a whole number.*received 2.5"),
        ("{}", ["augmentation.horizontal_flip=1"], r"expected true or false.*received 1"),
        ("{}", ["augmentation.zoom=0.1"], r"expected a list, e.g. \[-0.1, 0.1\].*received 0.1"),
        ("{}", ["augmentation.zoom=[0.1]"], r"augmentation.zoom: expected"),
        ("dataset: {source: imagnet}", [], r"dataset.source: expected 'tiny-imagenet', 'folder', .* or 'digit-scenes'"),
        (
            "{}",
            ["dataset.classes=[a, b, a]"],
            r"classes: expected a list, of 1 to 50,000 different .*received 'a' more",
        ),
        ("{}", ["dataset.tfds_name=''"], r"dataset.tfds_name: expected text of at least one character .*received ''"),
        ("{}", ["ft.unfreeze=some"], r"ft.unfreeze: expected 'all' or a whole number of at least 1.*received 'some'"),
        ("{}", ["tl.epochs"], r"--set tl.epochs: expected KEY=VALUE"),
        ("{}", ["tl=3"], r"--set tl=3: tl: expected keys of tl, received 3"),
        ("tl: {epochs: 1, epochs: 2}", [], r"study.yaml: not valid YAML .*duplicate key"),
        ("a: [", [], r"study.yaml: not valid YAML"),
        ("name: ../escape", [], r"study.yaml: name: expected"),
    ],
)
def test_bad_input_names_place_key_expectation_and_value(tmp_path, text, settings, message):
    with pytest.raises(UserError, match=message):
        resolve(tmp_path, "models: {VGG16: {}}\n" + ("" if text == "{}" else text), *settings)


def test_a_bad_key_in_a_model_block_names_the_block(tmp_path):
    with pytest.raises(UserError, match=r"study.yaml: models.VGG16: dataset.size: unknown key 'size'"):
        resolve(tmp_path, "models: {VGG16: {dataset: {size: 3}}}")


def test_unknown_models_and_experiments_suggest_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"models.VGG61: unknown model 'VGG61'; did you mean 'VGG19' or 'VGG16'\?$"):
        load_experiment(write(tmp_path, "models: {VGG61: {}}"))
    with pytest.raises(UserError, match=r"unknown model 'efficientnet_b0'; did you mean 'EfficientNet"):
        resolve(tmp_path, "models: {VGG16: {}}", model="efficientnet_b0")
    with pytest.raises(UserError, match=r"unknown experiment 'tiny-imagnet'; did you mean 'tiny-imagenet'"):
        load_experiment("tiny-imagnet")
    with pytest.raises(UserError, match="expected at least one model"):
        load_experiment(write(tmp_path, "title: nothing"))


def test_configuration_is_frozen(tmp_path):
    config = resolve(tmp_path, "models: {VGG16: {}}")
    with pytest.raises(ValueError, match="frozen"):
        config.tl.epochs = 3


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_resolves_for_every_model_and_survives_a_round_trip(path, tmp_path):
    experiment = load_experiment(str(path))
    for model in experiment.models:
        config = experiment.resolve(model)
        again = tmp_path / "again.yaml"
        for written in (to_yaml(config), describe(config)):
            again.write_text(written + f"\nmodels: {{{model}: {{}}}}\n")
            assert load_experiment(str(again)).resolve(model) == config


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_has_its_head_comment(path):
    check_head_comment(path, "experiments")


def test_describe_explains_every_key(tmp_path):
    text = describe(resolve(tmp_path, "models: {VGG16: {}}"))
    keys = [line for line in text.splitlines() if line.strip()]
    assert all("#" in line for line in keys)
    assert "  epochs: 15  # maximum number of epochs" in text


def run_config(tmp_path: Path, text: str) -> Config:
    (tmp_path / "config.yaml").write_text(text)
    return load_run_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(("former", "today"), [("balanced", "class_weights"), ("none", "none")])
def test_an_earlier_runs_setting_is_read_by_its_name_of_today(tmp_path, former, today):
    config = run_config(tmp_path, f"name: digits\ntraining: {{class_weights: {former}, batch_size: 16}}\n")
    assert (config.training.imbalance, config.training.batch_size) == (today, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntraining: {gpus: 2}", r"config\.yaml: training\.gpus: unknown key 'gpus'"),
        ("name: a\nlayers: 3", r"config\.yaml: layers: unknown key 'layers'"),
        ("name: a\ntraining: {class_weights: [1, 2]}", r"config\.yaml: training\.class_weights: unknown key"),
        ("name: a\ntl: {optimizer: adadelta}", r"config\.yaml: tl\.optimizer: expected .*received 'adadelta'"),
        ("name: a\ntl:", r"config\.yaml: tl: expected keys of tl, received None"),
        ("tl: {epochs: 3}", r"config\.yaml: name: expected .*received nothing"),
    ],
)
def test_what_this_version_does_not_accept_of_an_earlier_run_is_told_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as refusal:
        run_config(tmp_path, text)
    assert "\n" not in str(refusal.value)


def test_a_key_with_more_digits_than_python_writes_is_refused_in_one_line(tmp_path):
    path = tmp_path / "study.yaml"
    for text in (f"? 0x{'F' * 5000}\n: 1\nmodels: {{VGG16: {{}}}}\n", f"models:\n  ? 0x{'F' * 5000}\n  : {{}}\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="an integer with too many digits to show"):
            load_experiment(str(path)).resolve("VGG16")
