"""Says in words which values a configuration key accepts, from the schema that also checks them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from keras_bench.config.schema import Config

Schema = Mapping[str, Any]  # JSON schema of one key, as pydantic writes it


@cache
def key_schemas() -> dict[str, Schema]:
    """Return the JSON schema of every configuration key, by dotted key."""
    whole = Config.model_json_schema()
    keys: dict[str, Schema] = {}
    for name, schema in whole["properties"].items():
        if "$ref" in schema:
            section = whole["$defs"][schema["$ref"].rpartition("/")[2]]
            keys |= {f"{name}.{key}": key_schema for key, key_schema in section["properties"].items()}
        else:
            keys[name] = schema
    return keys


def describe_expected(key: str) -> str:
    """Return which values a key accepts and what it means, e.g. "a whole number of at least 1 (images per step)".

    Args:
        key: dotted, e.g. "training.batch_size".
    """
    schema = key_schemas()[key]
    return f"{_words(schema)} ({schema['description']})"


def _words(schema: Schema) -> str:
    if "expected" in schema:
        return str(schema["expected"])
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        *first, last = map(repr, schema.get("enum", [schema.get("const")]))
        return f"{', '.join(first)} or {last}" if first else last
    match schema["type"]:
        case "integer":
            return f"a whole number{_bounds(schema)}"
        case "number":
            return f"a number{_bounds(schema)}"
        case "boolean":
            return "true or false"
        case "array":
            return _list_words(schema)
        case "string":
            least = " of at least one character" if schema.get("minLength") else ""
            return f"text{least} without control characters, at most {schema['maxLength']:,} long"
    return "null"


def _list_words(schema: Schema) -> str:
    example = f", e.g. {schema['default']}" if schema.get("default") else ""
    if "prefixItems" in schema:
        return f"a list{example}, of two numbers{_bounds(schema['prefixItems'][0])}, the lower one first"
    least = schema.get("minItems", 0)
    different = "different " if schema.get("uniqueItems") else ""
    return f"a list{example}, of {least} to {schema['maxItems']:,} {different}items, each {_words(schema['items'])}"


def _bounds(schema: Schema) -> str:
    """Return the range of a number, e.g. " of more than 0 and at most 10"."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    bounds = [f"{word} {schema[key]:,}" for key, word in words.items() if key in schema]
    return f" of {' and '.join(bounds)}" if bounds else ""
