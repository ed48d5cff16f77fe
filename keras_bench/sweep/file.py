"""Reads experiments/sweeps/*.yaml: an experiment, the keys that vary, and the baseline that points are tested against.

Each point is the experiment with some keys set differently. Precedence: experiment < its `models.<name>` block <
ONLY_TRAINING < the sweep's `set` < command line. The command line cannot set keys that the points vary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_bench.backbones.table import BACKBONES
from keras_bench.config.load import Layer, experiment_folders, find_file
from keras_bench.config.recipe import MAX_SEED
from keras_bench.config.yaml_text import read_yaml
from keras_bench.errors import UserError, quoted, unknown_name
from keras_bench.phases import Phase, as_phase
from keras_bench.sweep.points import (
    Point,
    Search,
    nest,
    read_baseline,
    read_first_trial,
    read_grid,
    read_points,
    read_search,
    read_settings,
    refuse_unknown,
)

KINDS = ("grid", "points", "search")
KEYS = ("title", "experiment", "models", "phase", "set", "baseline", *KINDS, "seeds")

# No training result depends on these, and they cost more than training a small head. `set` or --set turns them back
# on, e.g. `set: {latency.enabled: true}`.
ONLY_TRAINING = Layer(
    "what a sweep leaves out", {part: {"enabled": False} for part in ("explain", "latency", "export")}
)


@dataclass(frozen=True)
class Sweep:
    """A sweep file as read; the values of configuration keys are checked when a point is applied to the experiment.

    Attributes:
        path: the file.
        title: one line for people.
        experiment: name or path.
        models: backbones; (): the first of the experiment.
        phase: last phase to train; None: the experiment's.
        fixed: keys that are the same for every point.
        kind: "grid", "points" or "search".
        points: in the order in which they run; () for a search.
        search: how points are drawn; None where the file lists them.
        baseline: the point that the others are tested against; None: the first trial of a search.
        seeds: one run of every point per seed.
    """

    path: Path
    title: str
    experiment: str
    models: tuple[str, ...]
    phase: Phase | None
    fixed: dict[str, object]
    kind: str
    points: tuple[Point, ...]
    search: Search | None
    baseline: Point | None
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The sweep's folder name in runs/sweeps/."""
        return self.path.stem

    def layers(self, point: Point) -> tuple[Layer, ...]:
        """Return the configuration layers of a point, lowest precedence first."""
        fixed = Layer(f"{self.path}: set", nest(self.fixed))
        return (ONLY_TRAINING, fixed, Layer(f"{self.path}: {self.kind}", nest(point.settings)))


def load_sweep(name: str) -> Sweep:
    """Read a sweep by name or path; names are looked up in the folder sweeps/ beside the experiments.

    Raises:
        UserError: the file is missing or is not YAML, or one of its keys is unknown or has an invalid value.
    """
    path = find_file(name, "sweep", [folder / "sweeps" for folder in experiment_folders()], "sweep")
    tree = read_yaml(path)
    refuse_unknown(str(path), tree, KEYS)
    kind = _read_kind(path, tree)
    origin, baseline = f"{path}: {kind}", tree.get("baseline")
    points: tuple[Point, ...] = ()
    search = None
    if kind == "search":
        search = read_search(origin, tree[kind])
        baseline_point = read_first_trial(f"{path}: baseline", baseline, search)
    else:
        points = read_grid(origin, tree[kind]) if kind == "grid" else read_points(origin, tree[kind])
        baseline_point = read_baseline(f"{path}: baseline", baseline, points)
    return Sweep(
        path=path,
        title=_read_text(path, "title", tree.get("title", "")),
        experiment=_read_text(path, "experiment", tree.get("experiment")),
        models=_read_models(path, tree.get("models", [])),
        phase=_read_phase(path, tree.get("phase")),
        fixed=read_settings(f"{path}: set", tree.get("set", {})),
        kind=kind,
        points=points,
        search=search,
        baseline=baseline_point,
        seeds=_read_seeds(path, tree.get("seeds", [0])),
    )


def _read_kind(path: Path, tree: Mapping[str, object]) -> str:
    kinds = [kind for kind in KINDS if kind in tree]
    if len(kinds) != 1:
        received = " and ".join(kinds) or "none of them"
        raise UserError(f"{path}: expected one of grid, points and search, received {received}")
    return kinds[0]


def _read_text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or (key == "experiment" and not value):
        raise UserError(f"{path}: {key}: expected text, received {quoted(value)}")
    return value


def _read_models(path: Path, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{path}: models: expected a list of backbones, e.g. [MobileNet], received {quoted(value)}")
    for name in value:
        if name not in BACKBONES:
            raise UserError(f"{path}: models: {unknown_name('model', name, BACKBONES)}")
    return tuple(dict.fromkeys(value))


def _read_phase(path: Path, value: object) -> Phase | None:
    try:
        return None if value is None else as_phase(value)
    except ValueError as error:
        raise UserError(f"{path}: phase: {error}") from error


def _read_seeds(path: Path, value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in value)
    ):
        raise UserError(
            f"{path}: seeds: expected a list of whole numbers from 0 to {MAX_SEED}, received {quoted(value)}"
        )
    return tuple(dict.fromkeys(value))
