"""Records of a published study and of how its claims compare with the runs here."""

from dataclasses import dataclass

from keras_bench.phases import Phase

# Figures that a source may state: heading, factor from the file to the page, decimals.
FIGURES = {
    "val_loss": ("val loss", 1, 2),
    "val_top1": ("val top-1, %", 100, 1),
    "val_top5": ("val top-5, %", 100, 1),
    "test_top1": ("test top-1, %", 100, 1),
    "test_macro_f1": ("F1", 100, 1),
    "test_macro_auc": ("AUC", 100, 1),
    "parameters_millions": ("parameters, M", 1, 1),
    "megabytes": ("weights, MiB", 1, 1),  # sources print MB and mean 2**20 bytes
    "cpu_ms": ("CPU, ms", 1, 0),
    "gpu_ms": ("GPU, ms", 1, 0),
    "training_seconds": ("training, s", 1, 0),
    "inference_seconds": ("inference, s", 1, 3),
}

# Figures that a claim may compare: heading, factor, decimals.
CLAIMED = {
    "val_top1": ("val top-1, %", 100, 1),
    "test_top1": ("test top-1, %", 100, 1),
    "val_falls": ("mean fall of val top-1 from one epoch to the next, points", 100, 2),
    "seconds_per_epoch": ("seconds per epoch", 1, 1),
    "gap": ("overfitting gap, points", 100, 1),
    "gradcam_area": ("share of the image that holds half of Grad-CAM's evidence, %", 100, 1),
    "parameters_millions": ("parameters, M", 1, 2),
}


@dataclass(frozen=True)
class Published:
    """One row of published figures.

    Attributes:
        model: the backbone's name.
        phase: which.
        figures: the stated values by name of FIGURES, e.g. {"val_top1": 0.57, "parameters_millions": 14.8}.
    """

    model: str
    phase: Phase
    figures: dict[str, float]


@dataclass(frozen=True)
class Claim:
    """One published finding, in a form that runs can confirm or contradict.

    Attributes:
        text: the finding in words.
        figure: a name of CLAIMED.
        more: the model for which the figure is claimed to be higher.
        less: the model for which it is claimed to be lower.
    """

    text: str
    figure: str
    more: str
    less: str


@dataclass(frozen=True)
class ClaimCheck:
    """A claim and what the runs here show.

    Attributes:
        claim: the published claim.
        more: our figure of the model claimed to be higher; None where it was not measured.
        less: our figure of the other model.
        verdict: "as published", "the opposite", "no difference shown", or why there is no comparison.
    """

    claim: Claim
    more: float | None
    less: float | None
    verdict: str


@dataclass(frozen=True)
class Study:
    """The published study that an experiment is compared with.

    Attributes:
        source: the publication.
        hardware: the hardware it used; "" where it does not say.
        data: the data on which the figures were measured.
        comparable: whether our data set and class list are the same.
        difference: why not; "" where they are.
        rows: its figures.
        claims: its findings.
        notes: what a reader should know about them.
    """

    source: str
    hardware: str
    data: str
    comparable: bool
    difference: str
    rows: list[Published]
    claims: list[Claim]
    notes: list[str]

    def row(self, model: str, phase: Phase) -> Published | None:
        """Return the published row of a model and phase, or None."""
        return next((row for row in self.rows if (row.model, row.phase) == (model, phase)), None)
