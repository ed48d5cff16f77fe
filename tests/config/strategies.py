"""Hypothesis strategies for configuration keys, made from the schema itself, so that a new key needs no change here."""

import math

from hypothesis import strategies
from pydantic import ValidationError

from keras_bench.config.expectation import key_schemas
from keras_bench.config.schema import Config

HUGE = 10**26
# What a slip of the pen, a wrong type or another program may leave where a value should be.
AWKWARD = (
    *(
        math.nan,
        math.inf,
        -math.inf,
        1e26,
        -1e26,
        1e308,
        HUGE,
        -HUGE,
        10**400,
        10**5000,
        -1,
        0,
        -0.0,
        0.5,
        2**32,
        2**63,
    ),
    *(True, False, None, "", "three", "1", "nan", "\0", "\x1b[31m", "a\nb", "\ud800", "x" * 5000, "ünïcode", "null"),
    *([], [None], [0.5], [1, 0], [0.2, 0.1], [math.nan, 1], [0, math.inf], [[0, 1]], [1, 2, 3], list(range(20_000))),
    *({}, {"a": 1}, {"epochs": 3}, {"a": {"b": {"c": []}}}),
)


def valid_values(key):
    """Return a strategy of values that a key's schema allows; pairs come in either order."""
    return _values(key_schemas()[key])


def _values(schema):
    if "anyOf" in schema:
        return strategies.one_of(*map(_values, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return strategies.sampled_from(schema.get("enum") or [schema["const"]])
    match schema["type"]:
        case "integer":
            return strategies.integers(schema["minimum"], schema["maximum"])
        case "number":
            return _numbers(schema)
        case "boolean":
            return strategies.booleans()
        case "null":
            return strategies.none()
        case "string" if "pattern" in schema:
            return strategies.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: len(text) <= 200)
        case "string":
            return strategies.text(min_size=schema.get("minLength", 0), max_size=40)
        case "array" if "prefixItems" in schema:
            return strategies.tuples(*map(_values, schema["prefixItems"])).map(list)
    assert schema["type"] == "array", schema
    most = min(schema["maxItems"], 6)
    items, least, unique = _values(schema["items"]), schema.get("minItems", 0), schema.get("uniqueItems", False)
    return strategies.lists(items, min_size=least, max_size=most, unique=unique)


def _numbers(schema):
    low, high = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
    )
    outside = {"exclude_min": "exclusiveMinimum" in schema, "exclude_max": "exclusiveMaximum" in schema}
    whole = strategies.integers(math.ceil(low), math.floor(high)).filter(lambda n: accepts_number(schema, n))
    return strategies.one_of(strategies.floats(low, high, **outside), whole)


def accepts_number(schema, number):
    """Return whether a number is in a schema's range."""
    return schema.get("minimum", -math.inf) <= number <= schema.get("maximum", math.inf) and schema.get(
        "exclusiveMinimum", -math.inf
    ) < number < schema.get("exclusiveMaximum", math.inf)


def is_valid(key, value):
    """Return whether the type of a key's field, taken by itself, accepts a value."""
    try:
        section, _, name = key.rpartition(".")
        model = type(Config.model_fields[section].default) if section else Config
        model.__pydantic_validator__.validate_assignment(model.model_construct(), name or section, value)
    except ValidationError as error:
        return not any(place["loc"][0] == name for place in error.errors())
    return True


def any_values():
    """Return a strategy of values that YAML can hold, most of which fit no key."""
    plain = strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(-HUGE, HUGE),
        strategies.floats(),
        strategies.text(max_size=20),
        strategies.integers(0, len(AWKWARD) - 1).map(AWKWARD.__getitem__),  # sampled_from would print all of them
    )

    def lists_and_keys(values):
        return strategies.lists(values, max_size=4) | strategies.dictionaries(strategies.text(max_size=5), values)

    return strategies.recursive(plain, lists_and_keys, max_leaves=6)
