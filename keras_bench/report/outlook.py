"""What a comparison does not show: what a suite will still add, what is turned off, and what is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from keras_bench.config.yaml_text import read_yaml
from keras_bench.explain.records import ExplanationChecks
from keras_bench.reading import read_intact
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import require_final_phase

FOLLOWS = "follows"  # the key of what follows in comparison.json, and the word in tables
NAMED = 6  # number of models that a sentence names


class ReportPart(StrEnum):
    """A part of a run that its comparison shows and that may be absent; the value is its name in texts."""

    LATENCY = "latency"
    EXPLANATIONS = "explanations"
    EXPORT = "ONNX bundle"


SWITCHES = {
    ReportPart.LATENCY: "latency.enabled",
    ReportPart.EXPLANATIONS: "explain.enabled",
    ReportPart.EXPORT: "export.enabled",
}


class Absence(StrEnum):
    """Why a run lacks a part."""

    FOLLOWS = "follows"
    OFF = "turned off"
    MISSING = "missing"


@dataclass(frozen=True)
class Outlook:
    """What a suite will still add to a comparison.

    Attributes:
        models: labels of its runs that are not finished yet, in the order in which they follow.
        parts: parts of its finished runs that it will still make, by `run_key`.
    """

    models: tuple[str, ...] = ()
    parts: Mapping[str, tuple[ReportPart, ...]] = field(default_factory=dict)

    def to_json(self, runs: Iterable[RunDir]) -> dict[str, object]:
        """Return what follows for comparison.json: of the parts, only those that the runs do not have yet."""
        following = {run_key(run): _parts_with(absent_parts(run, self), Absence.FOLLOWS) for run in runs}
        return {"models": list(self.models), "parts": {key: parts for key, parts in following.items() if parts}}


NOTHING_FOLLOWS = Outlook()


def run_key(run: RunDir) -> str:
    """Return the name of a run in an experiment: "MobileNet/seed0"."""
    return f"{run.model_name}/{run.root.name}"


def absent_parts(run: RunDir, outlook: Outlook = NOTHING_FOLLOWS) -> dict[ReportPart, Absence]:
    """Return the parts of its final model that a finished run lacks, and why; damaged ones are missing.

    A part that is there does not follow, even if the suite makes it again.
    """
    following = outlook.parts.get(run_key(run), ())
    settings = read_yaml(run.config)
    absent = {}
    for part, switch in SWITCHES.items():
        section, key = switch.split(".")
        if _is_there(run, part):
            continue
        if part in following:
            absent[part] = Absence.FOLLOWS
        elif (settings.get(section) or {}).get(key) is False:
            absent[part] = Absence.OFF
        else:
            absent[part] = Absence.MISSING
    return absent


def _is_there(run: RunDir, part: ReportPart) -> bool:
    final = require_final_phase(run)
    if part is ReportPart.LATENCY:
        return run.latency.is_file()
    if part is ReportPart.EXPORT:
        return run.export(final).is_file()
    checks = read_intact(run.explanation_checks, ExplanationChecks.from_json)
    return checks is not None and checks.phase == final


def _parts_with(absent: Mapping[ReportPart, Absence], why: Absence) -> list[str]:
    return [part.name.lower() for part in absent if absent[part] is why]


def following_lines(outlook: Outlook, absent: Mapping[str, Mapping[ReportPart, Absence]]) -> list[str]:
    """Return what follows in sentences: first the models, then each part; empty if nothing follows.

    Args:
        outlook: what follows.
        absent: the absent parts of the runs that are shown, by the run's label.
    """
    lines = []
    if outlook.models:
        lines.append(f"{names_in_words(outlook.models)} {'follow' if len(outlook.models) > 1 else 'follows'}.")
    for part in ReportPart:
        labels = [label for label, parts in absent.items() if parts.get(part) is Absence.FOLLOWS]
        if labels:
            whose = "" if len(labels) == len(absent) else f" of {names_in_words(labels)}"
            verb = "follow" if part is ReportPart.EXPLANATIONS else "follows"
            lines.append(f"{part[0].upper()}{part[1:]}{whose} {verb}.")
    return lines


def names_in_words(names: Iterable[str]) -> str:
    """Return "A, B and C", of many names the first six and the number of the others."""
    shown = list(names)
    if len(shown) > NAMED:
        shown = [*shown[:NAMED], f"{len(shown) - NAMED} more"]
    *others, last = shown
    return f"{', '.join(others)} and {last}" if others else last
