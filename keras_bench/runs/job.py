"""Requests from the command line, resolved and checked before anything heavy is imported."""

from dataclasses import dataclass, field
from pathlib import Path

from keras_bench.backbones.table import BACKBONES, Backbone
from keras_bench.config import (
    Config,
    Experiment,
    Layer,
    TrainingConfig,
    load_experiment,
    load_run_config,
    parse_setting,
)
from keras_bench.errors import UserError
from keras_bench.phases import Phase, phases_until
from keras_bench.reading import read_record
from keras_bench.runs.damage import describe, remedy
from keras_bench.runs.folders import ExperimentDir, RunDir, experiment_folder, run_folder

DEFAULT_EXPERIMENT = "tiny-imagenet"


@dataclass(frozen=True)
class Request:
    """The options of the command line, unchecked.

    Attributes:
        experiment: name or path of an experiment.
        model: backbone; None: the experiment's first.
        phase: last phase to train; None: the experiment's.
        data: path of the user's data; None: $KERAS_BENCH_DATA or the cache.
        weights: overrides model.weights.
        seed: seed of initial weights, dropout, shuffling and augmentation.
        out: folder of all runs.
        variant: distinguishes runs with changed settings, as part of the folder's name.
        settings: values of --set, in order.
        exports: folder of all bundles; None: exports/ for runs/, else exports/ below `out`.
        export: whether to make bundles at the end.
        layers: settings from a sweep, lowest precedence first; all yield to `settings`.
    """

    experiment: str = DEFAULT_EXPERIMENT
    model: str | None = None
    phase: Phase | None = None
    data: Path | None = None
    weights: str | None = None
    seed: int = 0
    out: Path = Path("runs")
    variant: str | None = None
    settings: tuple[str, ...] = field(default=())
    exports: Path | None = None
    export: bool = True
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Job:
    """A resolved request for one run.

    Attributes:
        request: the options of the command line.
        config: the configuration for this model.
        backbone: the model's row of the table.
        phases: the phases to train, in order.
        folder: the run's folder.
        experiment_folder: the folder of its experiment, which holds it.
        image_size: side of the network's input, pixels.
        exports: the experiment's folder of bundles.
    """

    request: Request
    config: Config
    backbone: Backbone
    phases: tuple[Phase, ...]
    folder: RunDir
    experiment_folder: ExperimentDir
    image_size: int
    exports: Path


def overriding_layers(request: Request) -> list[Layer]:
    """Return the configuration layers that override the experiment's file, lowest precedence first."""
    layers = [*request.layers, *(parse_setting(text) for text in request.settings)]
    if request.weights is not None:
        layers.append(Layer("--weights", {"model": {"weights": request.weights}}))
    if not request.export:
        layers.append(Layer("--no-export", {"export": {"enabled": False}}))
    return layers


def resolve(request: Request, experiment: Experiment | None = None) -> Job:
    """Turn the options of the command line into a checked job.

    Raises:
        UserError: a setting is invalid; the message says where it was written.
    """
    experiment = experiment or load_experiment(request.experiment)
    model = request.model or next(iter(experiment.models))
    layers = overriding_layers(request)
    config = experiment.resolve(model, layers)
    backbone = BACKBONES[model]
    last = request.phase or config.final_phase
    phases = phases_until(last)
    if last == "scratch":
        config = _without_weights(config, request)
    folder = experiment_folder(request.out, config.name, request.variant)
    job = Job(
        request=request,
        config=config,
        backbone=backbone,
        phases=phases,
        folder=run_folder(request.out, config.name, model, request.seed, request.variant),
        experiment_folder=folder,
        image_size=config.dataset.image_size or backbone.image_size,
        exports=exports_folder(request.out, request.exports) / folder.root.name,
    )
    _refuse_conflicting_settings(job)
    return job


def job_of_run(run: RunDir, data: Path | None, exports: Path | None, changes: dict[str, object]) -> Job:
    """Return the job of a finished run, according to its config.yaml.

    Args:
        run: the run's folder.
        data: path of the user's data; None: the path that the run used, if it still exists.
        exports: folder of all bundles; None: the default of `exports_folder`.
        changes: changed export settings, by key.

    Raises:
        UserError: the folder holds no finished run.
    """
    content = run.read_run()
    if content is None:
        if not run.config.is_file():
            raise UserError(f"{run.root} holds no finished run; expected runs/<experiment>/<model>/seed<k>")
        raise UserError(f"{run.root} holds no finished run: {describe(run.run)}; {remedy(run, [run.run])}")
    config = load_run_config(run.config)
    config = config.model_copy(update={"export": config.export.model_copy(update=changes)})
    folder = ExperimentDir(run.root.parents[1])
    _, _, variant = folder.root.name.partition("@")
    recorded = read_record(run.environment, lambda content: Path(content["locations"]["data"]))
    request = Request(
        experiment=config.name,
        model=run.model_name,
        data=data or (recorded if recorded.exists() else None),
        seed=run.seed,
        out=folder.root.parent,
        variant=variant or None,
        exports=exports,
    )
    backbone = BACKBONES[run.model_name]
    return Job(
        request=request,
        config=config,
        backbone=backbone,
        phases=tuple(content["phases"]),
        folder=run,
        experiment_folder=folder,
        image_size=config.dataset.image_size or backbone.image_size,
        exports=exports_folder(request.out, exports) / folder.root.name,
    )


def exports_folder(out: Path, exports: Path | None) -> Path:
    """Return the folder of all bundles: `exports` if given, exports/ for the default runs/, else exports/ in `out`."""
    return exports or (Path("exports") if out == Path("runs") else out / "exports")


def _without_weights(config: Config, request: Request) -> Config:
    if request.weights not in (None, "none"):
        raise UserError(f"--weights {request.weights}: phase scratch starts from random weights; omit one of the two")
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})


def _refuse_uneven_portions(training: TrainingConfig) -> None:
    if training.batch_size % training.accumulation_steps:
        raise UserError(
            f"training.accumulation_steps: a batch of {training.batch_size} images is computed in equal portions; "
            f"expected a number that divides {training.batch_size}, received {training.accumulation_steps}"
        )


def _refuse_conflicting_settings(job: Job) -> None:
    """Refuse values that are valid by themselves but incompatible with each other."""
    family, model, ft = job.backbone.family, job.config.model, job.config.ft
    name = job.backbone.name
    _refuse_uneven_portions(job.config.training)
    if ft.features == "cached" and ft.unfreeze == "all":
        raise UserError(
            "ft.features: cached needs blocks that stay frozen, but ft.unfreeze is all; "
            "use ft.features=streamed, or set ft.unfreeze to the number of last blocks that train"
        )
    if job.image_size < family.min_size:
        raise UserError(
            f"dataset.image_size: {name} needs at least {family.min_size} pixels, received {job.image_size}"
        )
    if model.alpha is not None and not family.alphas:
        raise UserError(f"model.alpha: {name} has no width multiplier; leave it null")
    if model.auxiliary_weight and not job.backbone.auxiliary_layer:
        raise UserError(
            f"model.auxiliary_weight: {name} has no auxiliary classifier, received {model.auxiliary_weight:g}; "
            "did you mean --model InceptionV3? Otherwise leave it 0, or set it in the block models.InceptionV3"
        )
    if model.weights == "imagenet" and not job.backbone.weights_url:
        raise UserError(
            f"model.weights: there are no ImageNet weights for {name}; "
            "use --phase scratch, --weights none, --weights PATH or --weights run:<experiment>/<model>/seed<k>"
        )
    if model.weights == "imagenet" and model.alpha is not None and model.alpha not in family.alphas:
        alphas = ", ".join(f"{alpha:g}" for alpha in family.alphas)
        raise UserError(f"model.alpha: ImageNet weights of {name} exist for {alphas}; received {model.alpha:g}")
    _check_weights_size(job)


def _check_weights_size(job: Job) -> None:
    size, alpha, name = job.config.model.weights_size, job.config.model.alpha, job.backbone.name
    sizes = job.backbone.weights_sizes(alpha)
    if size == "auto" or size in sizes:
        return
    if not sizes:
        blocks = " and ".join(f"models.{row.name}" for row in BACKBONES.values() if row.weights_sizes())
        raise UserError(
            f"model.weights_size: {name} has no ImageNet weights by input size, received {size}; "
            f"leave it auto, or set it in the blocks {blocks}"
        )
    width = "" if alpha is None else f" with alpha {alpha:g}"
    raise UserError(
        f"model.weights_size: expected auto or one of the sizes that ImageNet weights of {name}{width} exist for "
        f"({', '.join(map(str, sizes))} pixels), received {size}"
    )
