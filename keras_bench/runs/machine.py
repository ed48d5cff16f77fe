"""Checks that this machine is fit for runs: versions, memory, disk, intact weight files. Imports nothing heavy."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from keras_bench import __version__
from keras_bench.backbones.table import BACKBONES
from keras_bench.download import checksum_algorithm, digest_file
from keras_bench.environment import PACKAGES
from keras_bench.errors import one_line
from keras_bench.runs.weights import keras_home

DISTRIBUTION = "keras-bench"
MIN_FREE_BYTES = 1 << 30  # free memory and free disk below this are a problem


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        subject: what was checked.
        value: what was found, for display.
        remedy: how to fix the problem; "" if there is none.
    """

    subject: str
    value: str
    remedy: str = ""


def check_packages() -> list[Check]:
    """Check the versions of Python and of all requirements against the ranges in the package's metadata."""
    python = platform.python_version()
    try:
        package = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        uninstalled = Check(DISTRIBUTION, f"{__version__}, not installed, so the versions it requires are unknown")
        versions = [Check(name, _installed_version(name) or "not installed") for name in PACKAGES]
        return [Check("python", python), uninstalled, *versions]
    required = SpecifierSet(package["Requires-Python"] or "")
    remedy = "" if required.contains(python, prereleases=True) else f"use Python {required}"
    extras = [extra for extra in package.get_all("Provides-Extra") or () if extra != "dev"]
    checks = [Check("python", python, remedy), Check(DISTRIBUTION, __version__)]
    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            checks.append(_check_version(requirement, ""))
        elif requiring := [extra for extra in extras if marker.evaluate({"extra": extra})]:
            checks.append(_check_version(requirement, requiring[0]))
    return checks


def _check_version(requirement: Requirement, extra: str) -> Check:
    name, version = requirement.name, _installed_version(requirement.name)
    if version is None and extra:
        return Check(name, f"not installed (the extra {extra})")
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return Check(name, version)
    value = f"{version or 'not installed'}, expected {requirement.specifier or 'any version'}"
    return Check(name, value, f"pip install '{name}{requirement.specifier}'")


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_memory() -> Check:
    """Check that at least 1 GiB of memory is available."""
    total, free = memory()
    text = "unknown on this system" if total is None else f"{total / 1e9:.1f} GB, {_free_text(free)} free"
    is_scarce = free is not None and free < MIN_FREE_BYTES
    return Check("memory", text, "close other programs, or reduce training.batch_size" if is_scarce else "")


def _free_text(free: int | None) -> str:
    return "unknown" if free is None else f"{free / 1e9:.1f} GB"


def memory() -> tuple[int | None, int | None]:
    """Return the machine's total and available memory, bytes; None for a figure that the system does not report."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        names = getattr(os, "sysconf_names", {})
        is_reported = "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names
        return (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if is_reported else None), None
    kibibytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    total, free = (kibibytes.get(name) for name in ("MemTotal", "MemAvailable"))
    return (None if total is None else total << 10), (None if free is None else free << 10)


def check_folder(subject: str, folder: Path) -> Check:
    """Check that a folder is writable or can be created, and that at least 1 GiB of its disk is free."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not existing.is_dir():
        return Check(subject, f"{existing} is a file, expected a folder", "move the file away, or name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(subject, f"{existing} is not writable", "change its permissions, or name another folder")
    free = shutil.disk_usage(existing).free
    remedy = "free some space, e.g. with `keras-bench cache --features-mb 1000`" if free < MIN_FREE_BYTES else ""
    return Check(subject, f"{folder}, {free / 1e9:.1f} GB free", remedy)


def check_weight_files() -> list[Check]:
    """Check every local file of ImageNet weights: against its checksum or, without one, that HDF5 can open it."""
    folder = keras_home() / "models"
    files = [(folder / name, checksum) for name, checksum in weight_files() if (folder / name).is_file()]
    checks = [_check_weights(path, checksum) for path, checksum in files]
    return checks or [Check("weights", f"no file in {folder}; runs download what they need")]


def weight_files() -> Iterator[tuple[str, str]]:
    """Yield name and checksum ("" if none is published) of every backbone's files, for all widths and input sizes."""
    for row in BACKBONES.values():
        for alpha in row.family.alphas or (None,):
            for size in row.weights_sizes(alpha) or (None,):
                source = row.weights_source(alpha, size)
                if source is not None:
                    yield source[1:]


def _check_weights(path: Path, checksum: str) -> Check:
    remedy = f"delete {path}; a run that needs it downloads it again"
    try:
        if not checksum:
            _open_hdf5(path)
            return Check("weights", f"{path.name}, can be opened; no checksum is published for it")
        algorithm = checksum_algorithm(checksum)
        received = digest_file(path, algorithm)
    except OSError as error:
        return Check("weights", f"{path.name} cannot be read ({one_line(error, limit=120)})", remedy)
    if received != checksum:
        value = f"{path.name} is not the published file (expected {algorithm} {checksum}, received {received})"
        return Check("weights", value, remedy)
    return Check("weights", f"{path.name}, {algorithm} matches")


def _open_hdf5(path: Path) -> None:
    """Raise OSError if a file is not HDF5 or is truncated: its header states its length."""
    import h5py

    h5py.File(path, "r").close()
