"""Whether a finished phase's model and weights, without a recorded digest, can be read. No TensorFlow."""

import zipfile
from pathlib import Path

from keras_bench.errors import DamagedFileError


def is_whole_zip(path: Path) -> bool:
    """Return whether a file is an archive whose members have the checksums it states."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile reports damage through nearly any exception
        return False


def test_zip(path: Path) -> None:
    """Raise a DamagedFileError unless every member of an archive has the checksum it states."""
    if not is_whole_zip(path):
        raise DamagedFileError(f"{path} is damaged")


def open_weights(path: Path) -> None:
    """Raise a DamagedFileError unless an HDF5 file can be opened; its values have no checksums."""
    import h5py

    try:
        with h5py.File(path) as file:
            file.visit(lambda name: None)
    except (OSError, RuntimeError) as error:
        raise DamagedFileError(f"{path} is damaged") from error
