"""Saves models and weights such that a full disk is an error, not the end of the process.

HDF5 that cannot write to its file leaves objects behind whose release ends the process with signal 11. So it writes
to memory, and only finished bytes go to the disk.
"""

import io
from pathlib import Path

import keras
import numpy as np
from keras.src.saving import saving_lib

from keras_bench.disk import require_space
from keras_bench.files import replacing

SPARE_SHARE = 0.05  # configuration, names and alignment, as a share of the variables


def save_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a model, whole or not at all.

    Takes as much memory as the weights for a moment.

    Args:
        model: the model.
        path: the file, ending in .weights.h5.

    Raises:
        DiskFullError: there is no space for it.
    """
    content = _NamedBytes(path)
    model.save_weights(content)
    with replacing(path, content.getbuffer().nbytes) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model and its optimizer, whole or not at all.

    Keras writes HDF5 to memory too, unless the variables would take more than half of what is available (3.15): it
    then needs the space twice, for a temporary file beside the archive.

    Args:
        model: the model.
        path: the file, ending in .keras.

    Raises:
        DiskFullError: there is no space for it.
    """
    needed = model_bytes(model)
    require_space(path, 2 * needed if _keras_writes_to_disk(model) else needed)
    with replacing(path, needed) as unfinished:
        model.save(unfinished)


def model_bytes(model: keras.Model) -> int:
    """Return about how many bytes the file of a model and its optimizer takes."""
    variables = [*model.variables, *(model.optimizer.variables if getattr(model, "optimizer", None) else [])]
    count = sum(int(np.prod(variable.shape)) for variable in variables)
    return int((1 + SPARE_SHARE) * 4 * count)


def _keras_writes_to_disk(model: keras.Model) -> bool:
    is_memory_sufficient = getattr(saving_lib, "is_memory_sufficient", None)
    return is_memory_sufficient is not None and not is_memory_sufficient(model)


class _NamedBytes(io.BytesIO):
    """Bytes in memory that Keras takes for a file of this name; it checks the suffix of `str` alone."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def __str__(self) -> str:
        return self.path.name
