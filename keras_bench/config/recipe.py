"""What decides a result: data, augmentation, model, training and its phases, as frozen, validated types.

The defaults here are the one complete default recipe (that of the tiny-imagenet study where its source states
a value; ours, and marked "ours", where it does not). Files in experiments/ state only what differs.

pydantic v2 is used rather than plain dataclasses because one library then gives strict types, ranges, closed
key sets, a JSON round trip and an error location for each key; we only translate its errors into our own words.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from keras_bench.config.decision import DecisionMetric, decision_of

Fraction = Annotated[float, Field(ge=0, lt=1)]
# YAML has no tuples: a two-element list is accepted for a range, everything else is strict.
FloatRange = Annotated[tuple[float, float], Strict(False)]
Monitor = Literal["auto", "val_cross_entropy", "val_top1", "val_balanced_cross_entropy", "val_balanced_accuracy"]
Factors = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], Strict(False)]


class Section(BaseModel):
    """A frozen group of keys; unknown keys and loose types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatasetConfig(Section):
    """Which images are used, at which size, and how they are split."""

    source: Literal["tiny-imagenet", "folder", "csv", "tfds", "digits"] = Field(
        "tiny-imagenet", description="where the images come from"
    )
    tfds_name: str | None = Field(None, description="tensorflow-datasets builder, e.g. cifar10 (source: tfds)")
    classes: Annotated[tuple[str, ...], Strict(False)] | None = Field(
        None, description="use only these classes; null: all of them"
    )
    image_size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="side of the square network input in pixels; null: the backbone's own",
    )
    validation_fraction: Fraction = Field(
        0.1,
        description="share held out for decisions, of the images no official split places elsewhere (ours)",
    )
    test_fraction: Fraction = Field(
        0.1, description="share held out for the report where the source has no official test or val split"
    )
    remove_leaked: Literal["near", "near_always", "exact", "none"] = Field(
        "near",
        description="leave images out of train that val or test hold too, and out of val those that test holds too: "
        "near-duplicates, but where they are over 1 % of a class exact copies only; near_always: those too; exact "
        "copies; none",
    )
    split_seed: int = Field(0, ge=0, description="seed of the stratified split; independent of the run's seed")
    fraction: float = Field(1.0, gt=0, le=1, description="stratified share of the train and val images to use")
    long_tail: float = Field(
        1.0,
        ge=1,
        description="thin out train and val: the last class keeps 1/this, those between on a geometric line; 1: off",
    )
    limit_per_class: int | None = Field(
        None, ge=2, description="at most this many train and val images per class together; null: all"
    )


class AugmentationConfig(Section):
    """Random changes to training images, by Keras preprocessing layers; evaluation never sees them."""

    horizontal_flip: bool = Field(True, description="mirror left and right with probability 0.5")
    vertical_flip: bool = Field(False, description="mirror top and bottom with probability 0.5")
    rotation_degrees: float = Field(10.0, ge=0, le=180, description="rotate by up to ± this angle")
    zoom: FloatRange = Field((-0.1, 0.1), description="range of the relative zoom; negative zooms in (ours)")
    translation: Fraction = Field(0.1, description="shift by up to ± this share of height and width (ours)")
    contrast: Fraction = Field(0.0, description="scale contrast by 1 ± this")
    brightness: FloatRange = Field((0.0, 0.0), description="add a share of the value range drawn from this range")
    brightness_factor: Factors = Field((1.0, 1.0), description="multiply all values by a factor drawn from this range")
    crop: float = Field(1.0, gt=0, le=1, description="cut a random window of this share of the side; 1: off")

    @property
    def is_off(self) -> bool:
        """Whether images pass unchanged."""
        return self == AugmentationConfig(horizontal_flip=False, rotation_degrees=0, zoom=(0.0, 0.0), translation=0)


class ModelConfig(Section):
    """The backbone's variant and weights, and the classification head put on it."""

    alpha: float | None = Field(None, gt=0, le=2, description="width multiplier of the MobileNet family; null: 1.0")
    weights: str = Field(
        "imagenet", min_length=1, description="imagenet | none | PATH | run:<experiment>/<model>/seed<k>"
    )
    weights_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="auto, or the input size in pixels whose ImageNet weights are meant (MobileNet, MobileNetV2); "
        "auto: the input's own size where it has weights, else 224",
    )
    hidden_units: int = Field(
        256, ge=0, description="width of the ReLU layer; 0: none (ours; gives the published parameter counts)"
    )
    dropout: Fraction = Field(0.3, description="dropout rate after global average pooling")
    l2: float = Field(1e-4, ge=0, description="L2 penalty on the kernels of the head")
    batch_norm: Literal["frozen", "train"] = Field(
        "frozen", description="BatchNorm layers of the backbone in phase ft (in scratch they always train)"
    )
    batch_norm_momentum: float | None = Field(
        0.9,
        gt=0,
        lt=1,
        description="of BatchNorm layers that train (ours); null: the backbone's own, 0.99 to 0.9997",
    )
    auxiliary_weight: float = Field(
        0.0, ge=0, description="weight of InceptionV3's auxiliary classifier in the training loss; 0: none"
    )


class TrainingConfig(Section):
    """What the phases share."""

    batch_size: int = Field(32, ge=1, description="images per step")
    accumulation_steps: int = Field(
        1,
        ge=1,
        description="portions a batch is computed in, their gradients averaged before the weights move: "
        "less memory, the same step",
    )
    label_smoothing: Fraction = Field(0.0, description="share of the target spread evenly over the classes")
    imbalance: Literal["none", "class_weights", "undersample", "oversample", "focal", "logit_adjustment"] = Field(
        "none", description="what makes up for classes of different sizes; `keras-bench sweep imbalance` compares them"
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=10, description="focal: how much less images that are already correct count"
    )
    mixed_precision: Literal["none", "bfloat16", "float16"] = Field(
        "none", description="compute in half precision; saved models and evaluation stay float32"
    )
    xla: Literal["auto", "on", "off"] = Field("auto", description="compile with XLA; auto: on a GPU only")
    tf32: bool = Field(
        True,
        description="let NVIDIA GPUs from Ampere on train float32 with 10-bit mantissas where XLA compiles the step, "
        "TensorFlow's own default, which convergence bears; what is reported is full float32 in any case",
    )
    early_stopping_patience: int = Field(5, ge=1, description="epochs without improvement before stopping (ours)")
    early_stopping_monitor: Monitor = Field(
        "auto",
        description="what early stopping and plateau watch; auto: val_cross_entropy, or val_balanced_cross_entropy "
        "where `imbalance` is not none (ours)",
    )
    checkpoint_monitor: Monitor = Field(
        "auto",
        description="what chooses a phase's best epoch; auto: val_top1, or val_balanced_accuracy where `imbalance` is "
        "not none (ours). A balanced one lets balanced accuracy choose among phases, models and sweep points too",
    )

    @property
    def watched_by_stopping(self) -> str:
        """What early stopping and plateau watch, "auto" resolved."""
        usual = "val_cross_entropy" if self.imbalance == "none" else "val_balanced_cross_entropy"
        return usual if self.early_stopping_monitor == "auto" else self.early_stopping_monitor

    @property
    def watched_by_checkpoint(self) -> str:
        """What chooses a phase's best epoch, "auto" resolved."""
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

    epochs: int = Field(15, ge=1, description="epochs at most")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "lion"] = Field(
        "adam", description="sgd runs with `momentum`; adam with β 0.9, 0.999; lion with β 0.9, 0.99"
    )
    learning_rate: float = Field(1e-4, gt=0, le=10, description="at the start of the phase")
    momentum: Fraction | None = Field(
        None, description="of sgd and rmsprop; null: 0.9 for sgd, 0 for rmsprop, which is plain RMSProp then"
    )
    weight_decay: Fraction = Field(0.0, description="decoupled weight decay, for every optimizer")
    learning_rate_schedule: Literal["plateau", "constant", "cosine", "step"] = Field(
        "plateau", description="cosine falls to 0 over `epochs`; plateau and step multiply by a factor"
    )
    plateau_factor: float = Field(0.2, gt=0, lt=1, description="plateau: multiply the rate by this (ours)")
    plateau_patience: int = Field(2, ge=1, description="plateau: epochs without improvement before that (ours)")
    step_epochs: int = Field(10, ge=1, description="step: epochs between two reductions")
    step_factor: float = Field(0.1, gt=0, lt=1, description="step: multiply the rate by this")

    @property
    def resolved_momentum(self) -> float:
        """The momentum that counts; 0.9, which nothing reads, for an optimizer that has none."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.optimizer == "rmsprop" else 0.9


class TransferConfig(PhaseConfig):
    """Phase tl: PhaseConfig, and whether what is frozen runs once or in every epoch."""

    features: Literal["cached", "streamed"] = Field(
        "cached", description="cached: the frozen part sees each view once, the rest trains on what it gave"
    )
    views: int = Field(
        4, ge=1, le=64, description="cached: plain image and views - 1 augmented ones; each epoch draws one an image"
    )


class FineTuneConfig(TransferConfig):
    """Phase ft: TransferConfig, and how much of the backbone trains."""

    epochs: int = Field(5, ge=1, description="epochs at most")
    unfreeze: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all", description="all, or the number of last blocks of the backbone that train"
    )
    features: Literal["cached", "streamed"] = Field(
        "streamed", description="cached: as in tl, for the blocks that stay frozen; needs a number in `unfreeze`"
    )
