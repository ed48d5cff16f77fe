"""The whole configuration of an experiment: its recipe, and what follows training, as frozen, validated types."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from keras_bench.config.recipe import (
    MAX_IMAGES,
    AugmentationConfig,
    DatasetConfig,
    FineTuneConfig,
    ModelConfig,
    PhaseConfig,
    Section,
    Seed,
    Text,
    TrainingConfig,
    TransferConfig,
)
from keras_bench.phases import Phase

MAX_MEMORY_MB = 1_000_000_000  # a pebibyte


class ExplainConfig(Section):
    """Explanation maps and their checks, after training; no result of training depends on them."""

    enabled: bool = Field(True, description="compute explanations of the final phase")
    images: int = Field(100, ge=4, le=5000, description="test images explained, drawn by `seed`")
    curve_images: int = Field(60, ge=4, le=5000, description="how many of them the deletion and insertion curves use")
    randomized_images: int = Field(24, ge=4, le=5000, description="how many of them the randomisation check uses")
    seed: Seed = Field(0, description="seed of the draw and of the random maps; the same for every model")
    smooth_samples: int = Field(10, ge=2, le=200, description="noisy copies that SmoothGrad averages")
    smooth_noise: float = Field(
        0.2, gt=0, le=1, description="noise of these copies, as a share of the image's value range"
    )
    cells: int = Field(14, ge=4, le=56, description="deletion and insertion work on cells × cells squares")
    steps: int = Field(7, ge=4, le=100, description="number of equal portions in which cells are removed and added")


class LatencyConfig(Section):
    """How latency is measured; no result of training depends on it."""

    enabled: bool = Field(True, description="measure latency and the memory that inference needs")
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Strict(False)] = Field(
        (1, 8, 32), min_length=1, max_length=32, description="images per call"
    )
    calls: int = Field(
        200,
        ge=5,
        le=1_000_000,
        description="maximum timed calls per measurement; fewer if its median is precise before",
    )
    seconds: float = Field(
        10.0, gt=0, le=1_000_000, description="maximum seconds of timed calls, without start-up and warm-up"
    )
    warm_up: int = Field(10, ge=1, le=1_000_000, description="maximum untimed calls before each measurement")


class ExportConfig(Section):
    """The ONNX bundles exported at the end of a run; no result of training depends on them."""

    enabled: bool = Field(True, description="export bundles at the end of a run")
    phases: Literal["final", "all"] = Field(
        "final", description="export only the final phase, or every phase the run was asked for"
    )
    verify_images: int | None = Field(
        None, ge=1, le=MAX_IMAGES, description="test images on which the bundle must agree with Keras; null: all"
    )
    int8: bool = Field(True, description="also try to make an 8-bit version")
    int8_max_drop_points: float = Field(
        1.0, ge=0, le=100, description="keep it only if val top-1 falls by at most this many points"
    )
    int8_val_images: int = Field(
        2000, ge=1, le=MAX_IMAGES, description="maximum number of val images on which that is decided"
    )
    calibration_images: int = Field(
        200, ge=1, le=MAX_IMAGES, description="training images on which its value ranges are measured"
    )


class RuntimeConfig(Section):
    """Settings that cannot change a result, so they are not part of a run's fingerprint."""

    cache_memory_mb: int = Field(
        4096, ge=0, le=MAX_MEMORY_MB, description="limit in MiB of the decoded pixels kept in the cache"
    )
    save_state_seconds: float = Field(
        30.0,
        ge=0,
        le=1_000_000_000,
        description="least time between two saved states from which an interrupted phase resumes",
    )
    features_cache_mb: int = Field(
        20_000,
        ge=0,
        le=MAX_MEMORY_MB,
        description="disk limit in MiB, for cached features and for decoded images; least recently used go first",
    )
    tensorboard: bool = Field(True, description="write TensorBoard logs beside history.csv")


class Config(Section):
    """One experiment, resolved for one model."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
        description="the folder under runs/",
        json_schema_extra={"expected": "a letter or digit, then letters, digits, '.', '_' and '-', at most 200"},
    )
    title: Text = Field("", description="one line for people")
    data_hint: Text = Field("", description="where to get images that you must download yourself, and their layout")
    final_phase: Phase = Field("ft", description="what --phase defaults to")
    dataset: DatasetConfig = DatasetConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    scratch: PhaseConfig = PhaseConfig(epochs=30)
    tl: TransferConfig = TransferConfig()
    ft: FineTuneConfig = FineTuneConfig()
    explain: ExplainConfig = ExplainConfig()
    latency: LatencyConfig = LatencyConfig()
    export: ExportConfig = ExportConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def phase(self, phase: Phase) -> PhaseConfig:
        """Return the settings of phase `scratch`, `tl` or `ft`."""
        settings = getattr(self, phase)
        assert isinstance(settings, PhaseConfig)
        return settings

    def is_cached(self, phase: Phase) -> bool:
        """Return whether a phase trains on cached features."""
        settings = self.phase(phase)
        return isinstance(settings, TransferConfig) and settings.features == "cached"

    def views_of(self, phase: Phase) -> int:
        """Return how many views of each training image a cached phase computes; unchanged ones would all be alike."""
        settings = self.phase(phase)
        assert isinstance(settings, TransferConfig)
        return 1 if self.augmentation.is_off else settings.views
