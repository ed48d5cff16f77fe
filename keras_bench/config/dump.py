"""Writes a resolved configuration as YAML, plain for the run folder or with comments for people."""

import io

from pydantic import BaseModel
from ruamel.yaml import YAML

from keras_bench.config.schema import Config


def to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML that `--experiment FILE` can read, except for the missing `models`."""
    return _dump(config.model_dump(mode="json"))


def describe(config: Config) -> str:
    """Return the resolved configuration as YAML, with a comment that explains each key."""
    lines = []
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, BaseModel):
            lines.append(f"{_setting_line(name, value)}  # {field.description}")
            continue
        lines += ["", f"{name}:  # {(type(value).__doc__ or '').splitlines()[0]}"]
        for key, setting in type(value).model_fields.items():
            lines.append(f"  {_setting_line(key, value.model_dump(mode='json')[key])}  # {setting.description}")
    return "\n".join(lines) + "\n"


def _setting_line(key: str, value: object) -> str:
    return _dump({key: value}).rstrip("\n")


def _dump(tree: dict[str, object]) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.default_flow_style = False
    yaml.width = 10_000
    # A bare `key:` looks like an oversight, so write null.
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.representer.add_representer(
        list, lambda representer, items: representer.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
    )
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()
