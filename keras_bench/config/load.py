"""Reads experiments/*.yaml, overlays the model's block and the command line, and reports errors.

Precedence: default < experiment file < its `models.<name>` block < command line (`--set`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from keras_bench.backbones.table import BACKBONES
from keras_bench.config.expectation import describe_expected, key_schemas
from keras_bench.config.former import current_names
from keras_bench.config.schema import Config
from keras_bench.config.yaml_text import Tree, YAMLTextError, parse_yaml, read_yaml
from keras_bench.errors import UserError, name_text, quoted, shortened, unknown_name


@dataclass(frozen=True)
class Layer:
    """A set of configuration keys that override weaker layers.

    Attributes:
        origin: where the keys were written, for error messages, e.g. "experiments/digits.yaml".
        tree: nested keys and values, with the structure of the configuration.
    """

    origin: str
    tree: Tree


@dataclass(frozen=True)
class Experiment:
    """An experiment file: its keys, and the models it compares, in order.

    Attributes:
        path: the file.
        base: keys for all models.
        models: per model name, the keys that override `base`.
    """

    path: Path
    base: Layer
    models: dict[str, Layer]

    def resolve(self, model: str, overrides: Iterable[Layer] = ()) -> Config:
        """Return the validated configuration for one model.

        Args:
            model: a name in BACKBONES; the file need not list it.
            overrides: layers from the command line, weakest first.

        Raises:
            UserError: a key is unknown, or a value has the wrong type or is out of range.
        """
        if model not in BACKBONES:
            raise UserError(f"--model: {unknown_name('model', model, BACKBONES)}")
        layers = [self.base, self.models.get(model, Layer(str(self.path), {})), *overrides]
        for layer in layers:
            check_keys(layer, layer.tree, Config, "")
        merged: Tree = {}
        for layer in layers:
            merged = _overlay(merged, layer.tree)
        return _validate(merged, layers)


def find_file(name: str, kind: str, folders: list[Path], origin: str) -> Path:
    """Return the YAML file of an experiment or a sweep given by name or by path.

    Args:
        name: a path that ends in .yaml, or the name of a file in one of the folders.
        kind: "experiment" or "sweep", for error messages.
        folders: folders in which names are looked up, in order.
        origin: where the name was written, for error messages.

    Raises:
        UserError: there is no such file.
    """
    is_path = name.endswith((".yaml", ".yml"))
    candidates = [Path(name)] if is_path else [folder / f"{name}.yaml" for folder in folders]
    with suppress(OSError):  # a name that is too long for the file system is no file's
        for path in candidates:
            if path.is_file():
                return path
    if is_path:
        raise UserError(f"{origin}: no file {quoted(name)}. Give an existing YAML file or a name.")
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"{origin}: {unknown_name(kind, name, names)}, or a path ending in .yaml")


def load_experiment(name: str, origin: str = "--experiment") -> Experiment:
    """Read an experiment by name or path; its keys are checked by `Experiment.resolve`.

    Args:
        name: looked up in ./experiments, then in the package; or a path.
        origin: where the name was written, for error messages.

    Raises:
        UserError: the file is missing or is not YAML, or its `models` block does not map names in BACKBONES to keys.
    """
    path = find_file(name, "experiment", experiment_folders(), origin)
    tree = read_yaml(path)
    tree.setdefault("name", path.stem)
    models = tree.pop("models", None) or {}
    if not isinstance(models, dict) or not all(isinstance(block or {}, dict) for block in models.values()):
        raise UserError(f"{path}: models: expected a mapping of model names to overriding keys, e.g. {{VGG16: {{}}}}")
    for model in models:
        if model not in BACKBONES:
            name = name_text(model)
            raise UserError(f"{path}: models.{name}: {unknown_name('model', name, BACKBONES)}")
    if not models:
        raise UserError(f"{path}: models: expected at least one model, e.g. models: {{EfficientNetB0: {{}}}}")
    blocks = {name: Layer(f"{path}: models.{name}", dict(block or {})) for name, block in models.items()}
    return Experiment(path, Layer(str(path), tree), blocks)


def parse_setting(text: str) -> Layer:
    """Turn one `--set section.key=value` into a layer; the value is read as YAML.

    Raises:
        UserError: there is no `=`, or the value is not YAML.
    """
    path, separator, value = text.partition("=")
    origin = f"--set {shortened(text)}"
    if not separator or not path.strip():
        raise UserError(f"{origin}: expected KEY=VALUE, e.g. --set tl.epochs=3")
    if path.count(".") > 1:
        raise UserError(f"{origin}: {unknown_name('key', path.strip(), key_schemas())}")
    try:
        tree: Any = parse_yaml(value)
    except YAMLTextError as error:
        raise UserError(f"{origin}: the value is {error}") from error
    for key in reversed(path.strip().split(".")):
        tree = {key: tree}
    return Layer(origin, tree)


def check_keys(layer: Layer, tree: Mapping[Any, object], section: type[BaseModel], prefix: str) -> None:
    """Raise a UserError that names the origin and similar keys if `section` lacks a key of `tree`."""
    for key, value in tree.items():
        if key not in section.model_fields:
            if prefix == "" and key == "models":
                raise UserError(f"{layer.origin}: models can only be set in an experiment file")
            name = name_text(key)
            raise UserError(f"{layer.origin}: {prefix}{name}: {unknown_name('key', name, section.model_fields)}")
        subsection = section.model_fields[key].annotation
        if isinstance(subsection, type) and issubclass(subsection, BaseModel):
            if not isinstance(value, Mapping):
                raise UserError(f"{layer.origin}: {prefix}{key}: expected keys of {key}, received {quoted(value)}")
            check_keys(layer, value, subsection, f"{prefix}{key}.")


def experiment_folders() -> list[Path]:
    """Return the folders in which experiments are looked up: ./experiments first, then the bundled ones.

    The bundled ones are the package keras_bench.experiments, which setup.cfg maps to the checkout's experiments/. In a
    checkout, installed as editable or not at all, that folder is beside the package. The path starts at keras_bench,
    since the import system of an editable install may not know the inner package.
    """
    package = Path(str(resources.files("keras_bench")))
    bundled = package / "experiments"
    return [Path("experiments"), bundled if bundled.is_dir() else package.parent / "experiments"]


def load_run_config(path: Path) -> Config:
    """Return the resolved configuration that a run wrote to its folder.

    Keys that the run's version lacked get their defaults, and keys renamed since get their current names.

    Raises:
        UserError: the file has a key or a value that this version does not accept.
    """
    layer = Layer(str(path), _with_current_names(read_yaml(path)))
    check_keys(layer, layer.tree, Config, "")
    return _validate(layer.tree, [layer])


def _with_current_names(tree: Tree) -> Tree:
    """Return a run's settings with the current name of every key and value."""
    renamed: Tree = {}
    for section, content in tree.items():
        if not isinstance(content, Mapping):
            renamed[section] = content
            continue
        prefix = f"{section}."
        settings = current_names({f"{prefix}{key}": value for key, value in content.items()})
        renamed[section] = {key.removeprefix(prefix): value for key, value in settings.items()}
    return renamed


def _overlay(below: Tree, above: Mapping[str, object]) -> Tree:
    """Return `below` with the values of `above` put over it, section by section."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _overlay(merged[key], value)
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _validate(tree: Tree, layers: list[Layer]) -> Config:
    """Return the configuration, or raise a UserError that says which layer holds the first invalid value."""
    # pydantic replaces a whole section, whereas a file states only differences, so defaults are laid below it first.
    sections = {
        name: field.default.model_dump()
        for name, field in Config.model_fields.items()
        if isinstance(field.default, BaseModel)
    }
    try:
        return Config.model_validate(_overlay(sections, tree))
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"] if str(part) in _all_keys()]
        path = ".".join(keys)
        expected = describe_expected(path)
        if not _has(tree, keys):  # a run's file that lacks a required key
            raise UserError(f"{layers[0].origin}: {path}: expected {expected}, received nothing") from error
        origin = next(layer.origin for layer in reversed(layers) if _has(layer.tree, keys))
        received = first["msg"] if first["type"] == "repeated_item" else quoted(_value_at(tree, keys))
        raise UserError(f"{origin}: {path}: expected {expected}, received {received}") from error


def _all_keys() -> set[str]:
    names = set(Config.model_fields)
    for field in Config.model_fields.values():
        if isinstance(field.default, BaseModel):
            names |= set(type(field.default).model_fields)
    return names


def _has(tree: object, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _value_at(tree: Any, keys: list[str]) -> object:
    for key in keys:
        tree = tree[key]
    return tree


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a nested tree as a flat one with dotted keys; the inverse of `nest`."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
