"""What decides a result: data, augmentation, model, training and its phases, as frozen, validated types.

The defaults here are the one complete default recipe (that of the tiny-imagenet study where its source states
a value; ours, and marked "ours", where it does not). Files in experiments/ state only what differs.

pydantic v2 is used rather than plain dataclasses because one library then gives strict types, ranges, closed
key sets, a JSON round trip and an error location for each key; we only translate its errors into our own words.
"""

import unicodedata
from collections import Counter
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from keras_bench.config.decision import DecisionMetric, decision_of
from keras_bench.errors import quoted
from keras_bench.images import HIGHEST_LIMIT, MAX_MEGAPIXELS

# The upper bounds of most keys are far above anything useful. They are there so that a slip such as 1e26 is refused by
# its key, instead of ending in an error of some library hours later.
MAX_SEED = 2**32 - 1  # the largest that NumPy takes
MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = 65_536
MAX_IMAGES = 1_000_000_000
MAX_CLASSES = 50_000  # that can be named one by one; ImageNet-21k has 21,841


def _require_plain(text: str) -> str:
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or ord(character) & 0xFFFE == 0xFFFE:
            raise PydanticCustomError("control_character", "no control characters")
    return text


def _require_order(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise PydanticCustomError("reversed_range", "the lower number first")
    return values


def _require_distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := next((name for name, count in Counter(items).items() if count > 1), None):
        raise PydanticCustomError("repeated_item", "{name} more than once", {"name": quoted(repeated)})
    return items


Fraction = Annotated[float, Field(ge=0, lt=1)]
# Control characters would act on the terminal, and half of a surrogate pair cannot be written to a file.
Text = Annotated[str, Field(max_length=4096), AfterValidator(_require_plain)]
Name = Annotated[Text, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Zoom = Annotated[float, Field(gt=-1, le=10)]
Share = Annotated[float, Field(ge=-1, le=1)]
Factor = Annotated[float, Field(gt=0, le=100)]
# YAML has no tuples: a two-element list is accepted for a range, everything else is strict.
ZoomRange = Annotated[tuple[Zoom, Zoom], Strict(False), AfterValidator(_require_order)]
ShareRange = Annotated[tuple[Share, Share], Strict(False), AfterValidator(_require_order)]
FactorRange = Annotated[tuple[Factor, Factor], Strict(False), AfterValidator(_require_order)]
ClassNames = Annotated[
    tuple[Name, ...],
    Field(min_length=1, max_length=MAX_CLASSES, json_schema_extra={"uniqueItems": True}),
    Strict(False),
    AfterValidator(_require_distinct),
]
Monitor = Literal["auto", "val_cross_entropy", "val_top1", "val_balanced_cross_entropy", "val_balanced_accuracy"]


class Section(BaseModel):
    """A frozen group of keys; unknown keys, loose types, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DatasetConfig(Section):
    """Which images are used, at which size, and how they are split."""

    source: Literal["tiny-imagenet", "folder", "csv", "tfds", "digits", "digit-scenes"] = Field(
        "tiny-imagenet", description="where the images come from"
    )
    tfds_name: Name | None = Field(None, description="tensorflow-datasets builder, e.g. cifar10 (source: tfds)")
    classes: ClassNames | None = Field(None, description="use only these classes; null: all")
    image_size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="side of the square network input in pixels; null: the backbone's own",
    )
    max_megapixels: int = Field(
        MAX_MEGAPIXELS,
        ge=1,
        le=HIGHEST_LIMIT,
        description="larger images count as unreadable; WebP and progressive JPEG from half as many megapixels (ours)",
    )
    validation_fraction: Fraction = Field(
        0.1,
        description="share of the images without an official split that is held out for validation (ours)",
    )
    test_fraction: Fraction = Field(
        0.1, description="share held out for test if the source has no official test or val split"
    )
    remove_leaked: Literal["near", "near_always", "exact", "none"] = Field(
        "near",
        description="leave out train images that are also in val or test, and val images that are also in test. near: "
        "copies and near-duplicates, but copies only where near-duplicates are over 1 % of a class; near_always: both; "
        "exact: copies; none",
    )
    split_seed: Seed = Field(0, description="seed of the stratified split; independent of the run's seed")
    fraction: float = Field(1.0, gt=0, le=1, description="stratified share of the train and val images to use")
    long_tail: float = Field(
        1.0,
        ge=1,
        le=1_000_000,
        description="make train and val imbalanced: class sizes fall geometrically to 1/this in the last class; 1: off",
    )
    limit_per_class: int | None = Field(
        None, ge=2, le=MAX_IMAGES, description="at most this many train and val images per class together; null: all"
    )


class AugmentationConfig(Section):
    """Random changes to training images, by our own layers and Keras's; evaluation never sees them."""

    horizontal_flip: bool = Field(True, description="mirror left and right with probability 0.5")
    vertical_flip: bool = Field(False, description="mirror top and bottom with probability 0.5")
    rotation_degrees: float = Field(10.0, ge=0, le=180, description="rotate by up to ± this angle")
    zoom: ZoomRange = Field((-0.1, 0.1), description="range of the relative zoom; negative zooms in (ours)")
    translation: Fraction = Field(0.1, description="shift by up to ± this share of height and width (ours)")
    contrast: Fraction = Field(0.0, description="scale contrast by a factor within 1 ± this")
    brightness: ShareRange = Field((0.0, 0.0), description="add a share of the value range drawn from this range")
    brightness_factor: FactorRange = Field(
        (1.0, 1.0), description="multiply all values by a factor drawn from this range"
    )
    crop: float = Field(1.0, gt=0, le=1, description="crop a random window of this share of the side; 1: off")

    @property
    def is_off(self) -> bool:
        """Whether images pass unchanged."""
        return self == AugmentationConfig(horizontal_flip=False, rotation_degrees=0, zoom=(0.0, 0.0), translation=0)


class ModelConfig(Section):
    """The backbone's variant and weights, and the classification head on top of it."""

    alpha: float | None = Field(None, gt=0, le=2, description="width multiplier of the MobileNet family; null: 1.0")
    weights: Text = Field(
        "imagenet", min_length=1, description="imagenet | none | PATH | run:<experiment>/<model>/seed<k>"
    )
    weights_size: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto",
        description="input size in pixels whose ImageNet weights are used (MobileNet, MobileNetV2); auto: the size of "
        "the input if there are weights for it, else 224",
    )
    hidden_units: int = Field(
        256,
        ge=0,
        le=65_536,
        description="width of the head's ReLU layer; 0: none (ours; gives the published parameter counts)",
    )
    dropout: Fraction = Field(0.3, description="dropout rate after global average pooling")
    l2: float = Field(1e-4, ge=0, le=1000, description="L2 penalty on the kernels of the head")
    batch_norm: Literal["frozen", "train"] = Field(
        "frozen", description="whether BatchNorm layers of the backbone train in ft (in scratch they always do)"
    )
    batch_norm_momentum: float | None = Field(
        0.9,
        gt=0,
        lt=1,
        description="momentum of BatchNorm layers that train (ours); null: the backbone's own, 0.99 to 0.9997",
    )
    auxiliary_weight: float = Field(
        0.0, ge=0, le=1000, description="weight of InceptionV3's auxiliary classifier in the training loss; 0: none"
    )


class TrainingConfig(Section):
    """Settings that the phases share."""

    batch_size: int = Field(32, ge=1, le=MAX_BATCH_SIZE, description="images per step")
    accumulation_steps: int = Field(
        1,
        ge=1,
        le=MAX_BATCH_SIZE,
        description="compute each batch in this many portions and average their gradients: less memory, the same step",
    )
    label_smoothing: Fraction = Field(0.0, description="share of the target spread evenly over the classes")
    imbalance: Literal["none", "class_weights", "undersample", "oversample", "focal", "logit_adjustment"] = Field(
        "none", description="how class imbalance is handled; `keras-bench sweep imbalance` compares the ways"
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=10, description="focal: how strongly correctly classified images are down-weighted"
    )
    mixed_precision: Literal["none", "bfloat16", "float16"] = Field(
        "none", description="compute in half precision; saved models and evaluation stay float32"
    )
    xla: Literal["auto", "on", "off"] = Field("auto", description="compile with XLA; auto: on a GPU only")
    tf32: bool = Field(
        True,
        description="allow 10-bit mantissas (TF32) in training steps compiled by XLA on NVIDIA GPUs from Ampere on, "
        "TensorFlow's own default; reported results are always computed in full float32",
    )
    early_stopping_patience: int = Field(
        5, ge=1, le=MAX_EPOCHS, description="epochs without improvement before training stops (ours)"
    )
    early_stopping_monitor: Monitor = Field(
        "auto",
        description="metric for early stopping and plateau; auto: val_cross_entropy, or val_balanced_cross_entropy "
        "if `imbalance` is not none (ours)",
    )
    checkpoint_monitor: Monitor = Field(
        "auto",
        description="metric that chooses a phase's best epoch; auto: val_top1, or val_balanced_accuracy if `imbalance` "
        "is not none (ours). If it is balanced, balanced accuracy also chooses among phases, models and sweep points",
    )

    @property
    def watched_by_stopping(self) -> str:
        """The metric for early stopping and plateau, with "auto" resolved."""
        usual = "val_cross_entropy" if self.imbalance == "none" else "val_balanced_cross_entropy"
        return usual if self.early_stopping_monitor == "auto" else self.early_stopping_monitor

    @property
    def watched_by_checkpoint(self) -> str:
        """The metric that chooses a phase's best epoch, with "auto" resolved."""
        usual = "val_top1" if self.imbalance == "none" else "val_balanced_accuracy"
        return usual if self.checkpoint_monitor == "auto" else self.checkpoint_monitor

    @property
    def decision(self) -> DecisionMetric:
        """Which metric of val chooses the final phase, and ranks runs and sweep points."""
        return decision_of(self.watched_by_checkpoint)

    @property
    def portion_size(self) -> int:
        """Images that pass through the network at a time: a batch, or a portion of one."""
        return self.batch_size // self.accumulation_steps


class PhaseConfig(Section):
    """One compile/fit: how long, with which optimizer and learning rate."""

    epochs: int = Field(15, ge=1, le=MAX_EPOCHS, description="maximum number of epochs")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "lion"] = Field(
        "adam", description="sgd runs with `momentum`; adam with β 0.9, 0.999; lion with β 0.9, 0.99"
    )
    learning_rate: float = Field(1e-4, gt=0, le=10, description="learning rate at the start of the phase")
    momentum: Fraction | None = Field(
        None, description="of sgd and rmsprop; null: 0.9 for sgd, 0 (plain RMSProp) for rmsprop"
    )
    weight_decay: Fraction = Field(0.0, description="decoupled weight decay, with any optimizer")
    learning_rate_schedule: Literal["plateau", "constant", "cosine", "step"] = Field(
        "plateau", description="cosine falls to 0 over `epochs`; plateau and step multiply by a factor"
    )
    plateau_factor: float = Field(0.2, gt=0, lt=1, description="plateau: multiply the learning rate by this (ours)")
    plateau_patience: int = Field(
        2, ge=1, le=MAX_EPOCHS, description="plateau: epochs without improvement before each reduction (ours)"
    )
    step_epochs: int = Field(10, ge=1, le=MAX_EPOCHS, description="step: epochs between reductions")
    step_factor: float = Field(0.1, gt=0, lt=1, description="step: multiply the learning rate by this")

    @property
    def resolved_momentum(self) -> float:
        """The momentum that counts; 0.9, which nothing reads, for an optimizer that has none."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.optimizer == "rmsprop" else 0.9


class TransferConfig(PhaseConfig):
    """Phase tl: PhaseConfig, and whether the frozen layers run once or in every epoch."""

    features: Literal["cached", "streamed"] = Field(
        "cached", description="cached: the frozen layers see each view once, the others train on the features"
    )
    views: int = Field(
        4,
        ge=1,
        le=64,
        description="cached: the plain image and views - 1 augmented ones; each epoch draws one per image",
    )


class FineTuneConfig(TransferConfig):
    """Phase ft: TransferConfig, and how much of the backbone trains."""

    epochs: int = Field(5, ge=1, le=MAX_EPOCHS, description="maximum number of epochs")
    unfreeze: Literal["all"] | Annotated[int, Field(ge=1, le=1000)] = Field(
        "all", description="all, or how many of the backbone's last blocks train"
    )
    features: Literal["cached", "streamed"] = Field(
        "streamed", description="cached: as in tl, for the blocks that stay frozen; `unfreeze` must be a number"
    )
