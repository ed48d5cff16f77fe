"""Checks whether this machine and this installation are ready for runs, without using the network."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_bench.cli.cache_contents import cache_folders, folder_size
from keras_bench.console import Log
from keras_bench.download import cache_folder
from keras_bench.environment import usable_cores
from keras_bench.errors import DamagedFileError, UserError, one_line
from keras_bench.runs.machine import Check, check_folder, check_memory, check_packages, check_weight_files
from keras_bench.training.feature_store import Entry, entries


def diagnose(out: Path) -> list[Check]:
    """Run all checks and return their results; the last ones start TensorFlow.

    Args:
        out: the folder of all runs.
    """
    return [
        *check_packages(),
        Check("cores", f"{usable_cores()} usable"),
        check_memory(),
        check_folder("runs", out),
        check_folder("cache", cache_folder()),
        *(Check(f"cache: {folder.name}", f"{folder_size(folder) / 1e6:,.1f} MB") for folder in cache_folders()),
        *(_damaged_entry_check(entry) for entry in entries() if not _is_intact(entry)),
        *check_weight_files(),
        *_check_tensorflow(),
    ]


def print_checks(checks: list[Check], log: Log) -> None:
    """Print a table of all checks, then one line per problem with its remedy."""
    table = Table("", "checked", "", title="keras-bench doctor")
    for check in checks:
        table.add_row("problem" if check.remedy else "ok", Text(check.subject), Text(check.value))
    log.table(table)
    problems = [check for check in checks if check.remedy]
    for check in problems:
        log.line(f"problem: {check.subject}: {check.value}; {check.remedy}")
    if not problems:
        log.line("all is well; next: keras-bench run --experiment digits --dry-run")


def _is_intact(entry: Entry) -> bool:
    """Return whether cached features have the size they had when finished; an entry just removed counts as intact."""
    try:
        return bool(entry.read_facts()["bytes"] == entry.array.stat().st_size)
    except FileNotFoundError:
        return True
    except (OSError, TypeError, KeyError, DamagedFileError):
        return False


def _damaged_entry_check(entry: Entry) -> Check:
    value = f"{entry.array} or the .json beside it is damaged"
    return Check("cache: features", value, "delete both; the features are computed again when needed")


def _check_tensorflow() -> list[Check]:
    from keras_bench.models.start import start_tensorflow

    try:
        devices = start_tensorflow(Log(Console(quiet=True)))
    except UserError as error:
        return [Check("Keras", str(error), "then run keras-bench doctor again")]
    except ImportError as error:
        value = f"cannot be imported ({one_line(error, limit=120)})"
        return [Check("TensorFlow", value, "install keras-bench again in a new environment")]
    from keras_bench.models.preprocessing import differing_backbones, keras_settings

    checks = [Check("devices", ", ".join(devices) or "CPU; TensorFlow sees no GPU")]
    settings = keras_settings()
    needs_change = settings != ("tensorflow", "channels_last")
    remedy = "set both to tensorflow and channels_last in keras.json, and unset KERAS_BACKEND" if needs_change else ""
    checks.append(Check("Keras", f"backend {settings[0]}, image data format {settings[1]}", remedy))
    if needs_change:
        return checks
    differing = differing_backbones()
    for name, difference in differing.items():
        value = f"{name}: pixels differ from keras.applications by up to {difference:.2g}"
        checks.append(
            Check("preprocessing", value, "install the versions that keras-bench requires before this backbone trains")
        )
    return checks if differing else [*checks, Check("preprocessing", "of every backbone as in keras.applications")]
