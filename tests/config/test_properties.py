"""Every key of the schema, against whatever may stand in a file: refused by its key in one line, or kept exactly."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from keras_bench.config import Config, Experiment, Layer, load_experiment, parse_setting, to_yaml
from keras_bench.config.expectation import key_schemas
from keras_bench.config.load import flatten
from keras_bench.errors import UserError
from keras_bench.sweep.points import nest
from tests.config.strategies import AWKWARD, accepts_number, any_values, is_valid, valid_values

KEYS = tuple(key_schemas())
MODEL = "VGG16"
MAX_LINE = 700  # characters of a refusal: key, what was expected, the key's description, and the value cut to 100

COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def examples(count):
    """Return settings for a test of CI, which draws the same few examples every time."""
    return settings(**COMMON, derandomize=True, max_examples=count)


def many_examples(count):
    """Return settings for a slow test, which draws other examples every time."""
    return settings(**COMMON, max_examples=count)


def resolve(key, value):
    experiment = Experiment(Path("a.yaml"), Layer("a.yaml", nest({"name": "a", key: value})), {})
    return experiment.resolve(MODEL)


def value_of(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def check_value(key, value):
    """Check that a value is kept as it is, or refused in one line that names key, expectation and value."""
    if is_valid(key, value):
        kept = value_of(resolve(key, value), key)
        assert kept == (tuple(value) if isinstance(value, list) else value)
        return
    with pytest.raises(UserError) as refusal:
        resolve(key, value)
    message = str(refusal.value)
    assert message.startswith(f"a.yaml: {key}: expected ")
    assert ", received " in message
    assert message.isprintable()
    assert len(message) <= MAX_LINE


@pytest.mark.parametrize("key", KEYS)
def test_awkward_values_are_kept_or_refused_by_key(key):
    for value in AWKWARD:
        check_value(key, value)


@pytest.mark.parametrize("key", KEYS)
def test_a_number_is_finite_within_two_limits_and_of_its_type(key):
    for schema in key_schemas()[key].get("anyOf", [key_schemas()[key]]):
        items = [*schema.get("prefixItems", []), schema.get("items", {})]
        for number in [part for part in [schema, *items] if part.get("type") in ("integer", "number")]:
            assert {"minimum", "exclusiveMinimum"} & set(number)
            assert {"maximum", "exclusiveMaximum"} & set(number)
            if number is not schema:
                continue
            for value in AWKWARD:
                types = (int,) if number["type"] == "integer" else (int, float)
                fits = type(value) in types and accepts_number(number, value)
                other = "anyOf" in key_schemas()[key] and (value is None or isinstance(value, str))
                assert fits == is_valid(key, value) or other, value


@pytest.mark.parametrize("key", [key for key in KEYS if "prefixItems" in key_schemas()[key]])
@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_a_range_begins_with_its_lower_number(key, order):
    pair = {"ascending": [0.5, 0.75], "descending": [0.75, 0.5], "equal": [0.5, 0.5]}[order]
    assert is_valid(key, pair) == (order != "descending")


@examples(200)
@given(key=strategies.sampled_from(KEYS), value=any_values())
def test_any_value_is_kept_or_refused_by_key(key, value):
    check_value(key, value)


@pytest.mark.slow
@many_examples(20_000)
@given(key=strategies.sampled_from(KEYS), value=any_values())
def test_any_value_is_kept_or_refused_by_key_thoroughly(key, value):
    check_value(key, value)


@strategies.composite
def configurations(draw):
    """Draw a configuration in which every key has a value of its own."""
    values = {key: draw(valid_values(key).filter(lambda value, key=key: is_valid(key, value))) for key in KEYS}
    return Config.model_validate(nest(values))


def check_round_trip(config, path):
    """Check that a configuration is the same after writing and reading it, as a file and as settings."""
    path.write_text(to_yaml(config) + f"models: {{{MODEL}: {{}}}}\n", encoding="utf-8")
    assert load_experiment(str(path)).resolve(MODEL) == config
    texts = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in flatten(config.model_dump()).items()]
    empty = Experiment(path, Layer(str(path), {"name": config.name}), {})
    assert empty.resolve(MODEL, [parse_setting(text) for text in texts if not text.startswith("name=")]) == config


@examples(10)
@given(config=configurations())
def test_a_configuration_is_the_same_after_writing_and_reading(config, tmp_path):
    check_round_trip(config, tmp_path / "again.yaml")


@pytest.mark.slow
@many_examples(400)
@given(config=configurations())
def test_a_configuration_is_the_same_after_writing_and_reading_thoroughly(config, tmp_path):
    check_round_trip(config, tmp_path / "again.yaml")
