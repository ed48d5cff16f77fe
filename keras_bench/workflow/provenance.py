"""Writes the configuration, data and environment of a run before training, and again where they are damaged."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from keras_bench.config import to_yaml
from keras_bench.environment import describe_environment
from keras_bench.files import write_record, write_text
from keras_bench.reading import read_intact, read_json
from keras_bench.runs.damage import FILES, digests_of, is_edited
from keras_bench.runs.data import write_data_files
from keras_bench.runs.run import Run


def write_provenance(run: Run) -> None:
    """Write the run's configuration, data and environment, before any training."""
    from keras_bench.training.precision import describe_tf32

    _forget_config(run)
    write_text(run.folder.config, to_yaml(run.config))
    write_data_files(run.folder, run.data)
    _write_environment(
        run, {**describe_environment(list(run.devices)), "tf32": describe_tf32(run.config.training), **_command(run)}
    )


def restore_provenance(run: Run, damaged: Collection[Path]) -> None:
    """Write the damaged ones of these files again, for a run whose phases are all finished.

    The configuration is that of the command, which has the inputs that the results record; the environment is that of
    the last phase.
    """
    folder = run.folder
    if folder.dataset in damaged or folder.splits in damaged:
        write_data_files(folder, run.data)
    if folder.config in damaged:
        _keep_changed_config(run)
        write_text(folder.config, to_yaml(run.config))
    if folder.environment in damaged:
        result = folder.read_result(run.phases[-1])
        assert result is not None  # all phases are finished
        _write_environment(run, {**result.environment, **_command(run)})
    elif folder.config in damaged:
        _write_environment(run, read_json(folder.environment))


def _forget_config(run: Run) -> None:
    """Remove the digest of config.yaml, which changes next, so that a process killed in between leaves no damage."""
    environment = read_intact(run.folder.environment, dict)
    if environment is not None and environment.pop(FILES, None):
        write_record(run.folder.environment, environment)


def _keep_changed_config(run: Run) -> None:
    """Keep a config.yaml that someone edited beside the one that is written again."""
    if is_edited(run.folder.config):
        kept = run.folder.config.with_name(f"{run.folder.config.name}.changed")
        os.replace(run.folder.config, kept)
        run.log.line(f"config.yaml as it was changed is kept in {kept}")


def _command(run: Run) -> dict[str, object]:
    """Return what the user asked for: the command, the seed, and where weights and images are."""
    weights = run.weights
    return {
        "command": sys.argv[1:],
        "seed": run.job.request.seed,
        "weights_sha256": weights.fingerprint,
        "locations": {
            "data": run.data.index.location,
            "weights": str(weights.path) if weights.path else "none",
        },
    }


def _write_environment(run: Run, environment: dict[str, object]) -> None:
    files = digests_of(run.folder.root, [run.folder.config])
    write_record(run.folder.environment, {**environment, FILES: files})
