"""The predictions of one model for one split, image by image."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_bench.reading import arrays_of


@dataclass(frozen=True)
class Predictions:
    """Probabilities for N images and K classes, in the order of the ids.

    Attributes:
        ids: str, (N,), the image's path inside the data set.
        labels: int64, (N,), in [0, K).
        probabilities: float32, (N, K), rows sum to 1.
        class_names: str, (K,).
    """

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64, (N,); ties go to the lower class number."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction equals the label, bool, (N,)."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """The probability of each prediction, float32, (N,)."""
        return self.probabilities.max(axis=1)

    def to_npz(self) -> bytes:
        """Return the content of a predictions-*.npz file; it holds no pickled objects."""
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            ids=self.ids.astype(np.str_),
            labels=self.labels.astype(np.int64),
            probabilities=self.probabilities.astype(np.float32),
            class_names=self.class_names.astype(np.str_),
        )
        return stream.getvalue()

    def rows(self, positions: np.ndarray) -> "Predictions":
        """Return the predictions at the given positions, int64, (M,)."""
        return Predictions(self.ids[positions], self.labels[positions], self.probabilities[positions], self.class_names)

    @staticmethod
    def from_npz(path: Path) -> "Predictions":
        """Read a predictions-*.npz file."""
        with arrays_of(path) as arrays:
            return Predictions(arrays["ids"], arrays["labels"], arrays["probabilities"], arrays["class_names"])
