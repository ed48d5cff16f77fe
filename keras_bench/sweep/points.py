"""What varies in a sweep: a grid of values, listed points, or a space that a search draws from."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeGuard

from pydantic import BaseModel

from keras_bench.config.load import Tree
from keras_bench.config.schema import Config
from keras_bench.errors import UserError, unknown_name

METHODS = ("random", "bayesian")
SEARCH_KEYS = ("method", "trials", "seed", "space")


@dataclass(frozen=True)
class Point:
    """One setting of the keys that vary.

    Attributes:
        settings: value by dotted key, e.g. {"model.dropout": 0.2}; in the order of the file.
        name: what the file calls it; "" where it has no name.
    """

    settings: dict[str, Any]
    name: str = ""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included.

    Attributes:
        low: the smaller end.
        high: the larger end.
        log: whether equal ratios rather than equal differences are equally likely.
    """

    low: float
    high: float
    log: bool = False


Dimension = Range | tuple[Any, ...]


@dataclass(frozen=True)
class Search:
    """Points that are drawn one after another.

    Attributes:
        method: "random" or "bayesian".
        trials: how many points.
        seed: of the draws.
        space: for each key a range of numbers, or the values to choose from.
    """

    method: str
    trials: int
    seed: int
    space: dict[str, Dimension]


def nest(settings: Mapping[str, Any]) -> Tree:
    """Return dotted keys as the nested tree of a configuration layer."""
    tree: Tree = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return tree


def known_keys() -> list[str]:
    """Return every dotted configuration key that a sweep may set."""
    keys = []
    for name, field in Config.model_fields.items():
        inner = type(field.default).model_fields if isinstance(field.default, BaseModel) else None
        keys += [f"{name}.{key}" for key in inner] if inner else [name]
    return [key for key in keys if key != "name"]


def refuse_unknown(origin: str, tree: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    """Raise a UserError that names the first key that is not known, and the nearest ones."""
    for key in tree:
        if key not in known:
            raise UserError(f"{origin}: {key}: {unknown_name('key', str(key), known)}")


def read_settings(origin: str, value: Any) -> dict[str, Any]:
    """Return dotted configuration keys with their values; those are checked when they meet the experiment.

    Raises:
        UserError: it is something else, or a key is unknown.
    """
    if not isinstance(value, dict):
        raise UserError(f"{origin}: expected keys and values, e.g. {{model.dropout: 0.2}}, received {value!r}")
    known = known_keys()
    for key, one in value.items():
        if key == "name":
            raise UserError(f"{origin}: name: the experiment's name says where its runs lie and cannot be set here")
        if key in Config.model_fields and isinstance(one, dict):
            raise UserError(f"{origin}: {key}: expected keys written out, e.g. {{model.dropout: 0.2}}")
        if key not in known:
            raise UserError(f"{origin}: {key}: {unknown_name('key', str(key), known)}")
    return value


def read_grid(origin: str, tree: Any) -> tuple[Point, ...]:
    """Return every combination of the values of each key; the last key varies fastest."""
    lists = {key: _values(f"{origin}: {key}", values) for key, values in read_settings(origin, tree).items()}
    if not lists:
        raise UserError(f"{origin}: expected at least one key with its values, e.g. {{model.dropout: [0.2, 0.4]}}")
    return tuple(Point(dict(zip(lists, values, strict=True))) for values in product(*lists.values()))


def read_points(origin: str, items: Any) -> tuple[Point, ...]:
    """Return listed points, each with its own keys and perhaps a name."""
    if not isinstance(items, list) or not items:
        raise UserError(f"{origin}: expected a list, e.g. [{{model.dropout: 0.2}}], received {items!r}")
    points: list[Point] = []
    for number, item in enumerate(items, start=1):
        place = f"{origin}: {number}"
        settings = dict(item) if isinstance(item, dict) else item
        name = settings.pop("name", "") if isinstance(settings, dict) else ""
        if not isinstance(name, str):
            raise UserError(f"{place}: name: expected text, received {name!r}; put it in quotes")
        if name and name in [point.name for point in points]:
            raise UserError(f"{place}: name: {name!r} is the name of another point")
        points.append(Point(read_settings(place, settings), name))
    return tuple(points)


def read_search(origin: str, tree: Any) -> Search:
    """Return the space of a search and how it is drawn from."""
    if not isinstance(tree, dict):
        raise UserError(f"{origin}: expected the keys {', '.join(SEARCH_KEYS)}, received {tree!r}")
    refuse_unknown(origin, tree, SEARCH_KEYS)
    if tree.get("method") not in METHODS:
        raise UserError(f"{origin}: method: expected random or bayesian, received {tree.get('method')!r}")
    for key, least, default in (("trials", 1, None), ("seed", 0, 0)):
        number = tree.get(key, default)
        if type(number) is not int or number < least:
            raise UserError(f"{origin}: {key}: expected a whole number of at least {least}, received {number!r}")
    space = tree.get("space")
    if not isinstance(space, dict) or not space:
        raise UserError(f"{origin}: space: expected keys with their ranges or values, received {space!r}")
    read_settings(f"{origin}: space", dict.fromkeys(space))
    dimensions = {key: _dimension(f"{origin}: space: {key}", value) for key, value in space.items()}
    return Search(tree["method"], tree["trials"], tree.get("seed", 0), dimensions)


def read_baseline(origin: str, value: Any, points: tuple[Point, ...]) -> Point:
    """Return the first point with the given name or values, or the first of all where nothing is given."""
    if value is None:
        return points[0]
    if isinstance(value, str):
        names = {point.name: point for point in points if point.name}
        if value not in names:
            raise UserError(f"{origin}: {unknown_name('point', value, names)}")
        return names[value]
    wanted = read_settings(origin, value)
    for point in points:
        if all(key in point.settings and point.settings[key] == one for key, one in wanted.items()):
            return point
    raise UserError(f"{origin}: expected the name or values of a point, received {value!r}, which none of them has")


def read_first_trial(origin: str, value: Any, search: Search) -> Point | None:
    """Return the point that a search begins with and is tested against, or None where it is drawn."""
    if value is None:
        return None
    settings = read_settings(origin, value)
    if set(settings) != set(search.space):
        raise UserError(f"{origin}: expected a value for each key of search.space, received {value!r}")
    for key, one in settings.items():
        within = search.space[key]
        inside = one in within if isinstance(within, tuple) else _is_number(one) and within.low <= one <= within.high
        if not inside:
            raise UserError(f"{origin}: {key}: expected a value that search.space holds, received {one!r}")
    return Point({key: settings[key] for key in search.space})


def _values(origin: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{origin}: expected a list of values, e.g. [0.2, 0.4], received {value!r}")
    return tuple(value)


def _dimension(origin: str, value: Any) -> Dimension:
    if not isinstance(value, dict):
        return _values(origin, value)
    refuse_unknown(origin, value, ("low", "high", "log"))
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    if not _is_number(low) or not _is_number(high) or low >= high:
        raise UserError(f"{origin}: expected numbers low < high, e.g. {{low: 0.1, high: 0.5}}, received {value!r}")
    if not isinstance(log, bool):
        raise UserError(f"{origin}: log: expected true or false, received {log!r}")
    if log and low <= 0:
        raise UserError(f"{origin}: low: expected more than 0 where log is true, received {low!r}")
    return Range(low, high, log)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
