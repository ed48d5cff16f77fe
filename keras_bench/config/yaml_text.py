"""Reads YAML that may be damaged, endless or hostile: the only place where a YAML file or value is parsed.

In YAML a few lines can stand for billions of values, since an alias repeats a whole branch, and nesting has no limit;
the parser takes time and memory accordingly. So the events that it reports are counted as they come, and no value is
built before all of them are.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.parser import Parser

from keras_bench.errors import UserError, one_line, quoted, shortened

Tree = dict[str, Any]

MAX_BYTES = 2 << 20  # without a list of classes, the largest experiment has 3 KB
MAX_DEPTH = 16  # a configuration needs 4
MAX_VALUES = 100_000  # keys and values, those that aliases repeat included; reading them takes about 4 s
MAX_ALIASES = 100
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class YAMLTextError(ValueError):
    """A text is not YAML, or is larger than any configuration."""


def read_yaml(path: Path) -> Tree:
    """Return the keys and values of a YAML file, {} for an empty one.

    Raises:
        UserError: the file cannot be read, is not YAML or too large, or does not consist of keys and values.
    """
    try:
        if not path.is_file():  # reading a device or a pipe may never end
            raise UserError(f"{path}: expected a YAML file, received {'a folder' if path.is_dir() else 'no file'}")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        tree = parse_yaml(content.decode("utf-8-sig") if len(content) <= MAX_BYTES else "", len(content))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML ({one_line(error)})") from error
    except YAMLTextError as error:
        raise UserError(f"{path}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected keys and values, received {type(tree).__name__}")
    return tree


def parse_yaml(text: str, size: int | None = None) -> object:
    """Return the value of a YAML text: nested dictionaries, lists and plain values; None for an empty text.

    Args:
        text: the document.
        size: its length in bytes, if `text` was not read because that is too much.

    Raises:
        YAMLTextError: it is not YAML, or exceeds a limit of this module.
    """
    if (len(text) if size is None else size) > MAX_BYTES:
        raise YAMLTextError(f"too large: expected at most {MAX_BYTES >> 20} MiB of YAML")
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Parser, yaml.Constructor = _CheckingParser, _PlainConstructor
        return yaml.load(text)
    except YAMLTextError:
        raise
    except Exception as error:  # ruamel.yaml raises YAMLError, ValueError, TypeError, AttributeError and more
        raise YAMLTextError(f"not valid YAML ({one_line(error)})") from error


class _CheckingParser(Parser):
    """Refuses a text that is nested too deeply, holds too many values, or has tags of other types."""

    def get_event(self) -> Event:
        """Return the next event, counted; nodes are composed from these, and values built only from all nodes."""
        event = super().get_event()
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in TAGS:
            raise YAMLTextError(
                f"not plain YAML: the tag {quoted(str(tag))} is not accepted; write the value without it"
            )
        count = self.count
        count.add(event)
        if len(count.open) > MAX_DEPTH:
            raise YAMLTextError(f"too deep: expected at most {MAX_DEPTH} levels of nested lists and keys")
        if count.values > MAX_VALUES or count.aliases > MAX_ALIASES:
            raise YAMLTextError(f"too large: expected at most {MAX_VALUES:,} values and {MAX_ALIASES} aliases (*name)")
        return event

    @cached_property
    def count(self) -> "_Count":
        """The events so far."""
        return _Count()


class _PlainConstructor(SafeConstructor):
    """Leaves dates as they were written, since a title or a class may be one and no key expects one."""


_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


class _Count:
    """How many values the events so far stand for.

    Attributes:
        values: keys and values; an alias counts for all values of the branch that it repeats.
        aliases: aliases.
        open: per list or mapping that has not ended, outermost first, its anchor and the values before it.
        anchors: number of values that each anchor stands for.
    """

    def __init__(self) -> None:
        self.values = self.aliases = 0
        self.open: list[tuple[str | None, int]] = []
        self.anchors: dict[str | None, int] = {}

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, (SequenceEndEvent, MappingEndEvent)):
            anchor, before = self.open.pop()
            self.anchors[anchor] = self.values - before
        elif isinstance(event, (SequenceStartEvent, MappingStartEvent)):
            self.open.append((event.anchor, self.values))
            self.values += 1
        elif isinstance(event, ScalarEvent):
            self.anchors[event.anchor] = 1
            self.values += 1
        elif isinstance(event, AliasEvent):
            if event.anchor in [anchor for anchor, _ in self.open]:
                name = shortened(event.anchor)
                raise YAMLTextError(f"not plain YAML: *{name} stands inside the value that it repeats")
            self.aliases += 1
            self.values += self.anchors.get(event.anchor, 1)
