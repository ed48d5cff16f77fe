"""The points of a sweep: a grid of values, a list of points, or a space that a search draws from."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeGuard

from pydantic import BaseModel

from keras_bench.config.recipe import MAX_SEED
from keras_bench.config.schema import Config
from keras_bench.config.yaml_text import Tree
from keras_bench.errors import UserError, quoted, shortened, unknown_name

SEARCH_METHODS = ("random", "bayesian")
SEARCH_KEYS = ("method", "trials", "seed", "space")
MAX_POINTS = 10_000  # each is at least one run


@dataclass(frozen=True)
class Point:
    """One combination of values for the keys that vary.

    Attributes:
        settings: value by dotted key, e.g. {"model.dropout": 0.2}; in the order of the file.
        name: its name in the file; "" where it has none.
    """

    settings: dict[str, object]
    name: str = ""


@dataclass(frozen=True)
class SearchRange:
    """A range of numbers, including both ends.

    Attributes:
        low: the lower end.
        high: the upper end.
        log: whether to draw uniformly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


Dimension = SearchRange | tuple[object, ...]


@dataclass(frozen=True)
class Search:
    """Points that are drawn one after another.

    Attributes:
        method: "random" or "bayesian".
        trials: number of points.
        seed: seed of the draws.
        space: by key, a range of numbers or the values to choose from.
    """

    method: str
    trials: int
    seed: int
    space: dict[str, Dimension]


def nest(settings: Mapping[str, object]) -> Tree:
    """Return settings by dotted key as the nested tree of a configuration layer."""
    tree: Tree = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def known_keys() -> list[str]:
    """Return every dotted configuration key that a sweep may set."""
    keys = []
    for name, field in Config.model_fields.items():
        section = type(field.default).model_fields if isinstance(field.default, BaseModel) else None
        keys += [f"{name}.{key}" for key in section] if section else [name]
    return [key for key in keys if key != "name"]


def refuse_unknown(origin: str, tree: Iterable[object], known: tuple[str, ...]) -> None:
    """Raise a UserError that names the first unknown key and similar known ones."""
    for key in tree:
        if key not in known:
            raise UserError(f"{origin}: {shortened(str(key))}: {unknown_name('key', str(key), known)}")


def read_settings(origin: str, value: object) -> dict[str, object]:
    """Return values by dotted configuration key; values are checked when they are applied to the experiment.

    Raises:
        UserError: `value` is not a mapping, or a key is unknown.
    """
    if not isinstance(value, dict):
        raise UserError(f"{origin}: expected keys and values, e.g. {{model.dropout: 0.2}}, received {quoted(value)}")
    known = known_keys()
    for key, setting in value.items():
        if key == "name":
            raise UserError(f"{origin}: name: the experiment's name is the folder of its runs and cannot be set here")
        if key in Config.model_fields and isinstance(setting, dict):
            raise UserError(f"{origin}: {key}: expected full dotted keys, e.g. {{model.dropout: 0.2}}")
        if key not in known:
            raise UserError(f"{origin}: {shortened(str(key))}: {unknown_name('key', str(key), known)}")
    return value


def read_grid(origin: str, tree: object) -> tuple[Point, ...]:
    """Return every combination of the values of each key; the last key varies fastest."""
    lists = {key: _read_values(f"{origin}: {key}", values) for key, values in read_settings(origin, tree).items()}
    if not lists:
        raise UserError(f"{origin}: expected at least one key with its values, e.g. {{model.dropout: [0.2, 0.4]}}")
    count = prod(map(len, lists.values()))
    if count > MAX_POINTS:
        raise UserError(f"{origin}: expected at most {MAX_POINTS:,} points, received {count:,} combinations")
    return tuple(Point(dict(zip(lists, values, strict=True))) for values in product(*lists.values()))


def read_points(origin: str, items: object) -> tuple[Point, ...]:
    """Return the points of a list, each with its own keys and an optional name."""
    if not isinstance(items, list) or not items:
        raise UserError(f"{origin}: expected a list, e.g. [{{model.dropout: 0.2}}], received {quoted(items)}")
    points: list[Point] = []
    for number, item in enumerate(items, start=1):
        item_origin = f"{origin}: {number}"
        settings = dict(item) if isinstance(item, dict) else item
        name = settings.pop("name", "") if isinstance(settings, dict) else ""
        if not isinstance(name, str):
            raise UserError(f"{item_origin}: name: expected text, received {quoted(name)}; put it in quotes")
        if name and name in [point.name for point in points]:
            raise UserError(f"{item_origin}: name: {quoted(name)} is already the name of another point")
        points.append(Point(read_settings(item_origin, settings), name))
    return tuple(points)


def read_search(origin: str, tree: object) -> Search:
    """Return a search with its space and the method of drawing from it."""
    if not isinstance(tree, dict):
        raise UserError(f"{origin}: expected the keys {', '.join(SEARCH_KEYS)}, received {quoted(tree)}")
    refuse_unknown(origin, tree, SEARCH_KEYS)
    if tree.get("method") not in SEARCH_METHODS:
        raise UserError(f"{origin}: method: expected random or bayesian, received {quoted(tree.get('method'))}")
    for key, least, most, default in (("trials", 1, MAX_POINTS, None), ("seed", 0, MAX_SEED, 0)):
        number = tree.get(key, default)
        if type(number) is not int or not least <= number <= most:
            expected = f"a whole number of at least {least} and at most {most:,}"
            raise UserError(f"{origin}: {key}: expected {expected}, received {quoted(number)}")
    space = tree.get("space")
    if not isinstance(space, dict) or not space:
        raise UserError(f"{origin}: space: expected keys with their ranges or values, received {quoted(space)}")
    read_settings(f"{origin}: space", dict.fromkeys(space))
    dimensions = {key: _read_dimension(f"{origin}: space: {key}", value) for key, value in space.items()}
    return Search(tree["method"], tree["trials"], tree.get("seed", 0), dimensions)


def read_baseline(origin: str, value: object, points: tuple[Point, ...]) -> Point:
    """Return the first point with the name or values of `value`, or the first of all if it is None."""
    if value is None:
        return points[0]
    if isinstance(value, str):
        names = {point.name: point for point in points if point.name}
        if value not in names:
            raise UserError(f"{origin}: {unknown_name('point', value, names)}")
        return names[value]
    wanted = read_settings(origin, value)
    for point in points:
        if all(key in point.settings and point.settings[key] == setting for key, setting in wanted.items()):
            return point
    raise UserError(
        f"{origin}: expected the name or values of a point, received {quoted(value)}, which matches none of them"
    )


def read_first_trial(origin: str, value: object, search: Search) -> Point | None:
    """Return the first point of a search, its baseline, or None where that is drawn too."""
    if value is None:
        return None
    settings = read_settings(origin, value)
    if set(settings) != set(search.space):
        raise UserError(f"{origin}: expected a value for each key of search.space, received {quoted(value)}")
    for key, value in settings.items():
        if not _contains(search.space[key], value):
            raise UserError(f"{origin}: {key}: expected a value within search.space, received {quoted(value)}")
    return Point({key: settings[key] for key in search.space})


def _contains(dimension: Dimension, value: object) -> bool:
    if isinstance(dimension, tuple):
        return value in dimension
    return _is_number(value) and dimension.low <= value <= dimension.high


def _read_values(origin: str, value: object) -> tuple[object, ...]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{origin}: expected a list of values, e.g. [0.2, 0.4], received {quoted(value)}")
    return tuple(value)


def _read_dimension(origin: str, value: object) -> Dimension:
    if not isinstance(value, dict):
        return _read_values(origin, value)
    refuse_unknown(origin, value, ("low", "high", "log"))
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    if not _is_number(low) or not _is_number(high) or low >= high:
        raise UserError(
            f"{origin}: expected finite numbers low < high, e.g. {{low: 0.1, high: 0.5}}, received {quoted(value)}"
        )
    if not isinstance(log, bool):
        raise UserError(f"{origin}: log: expected true or false, received {quoted(log)}")
    if log and low <= 0:
        raise UserError(f"{origin}: low: expected more than 0 where log is true, received {quoted(low)}")
    return SearchRange(low, high, log)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
