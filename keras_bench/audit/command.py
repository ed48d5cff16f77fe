"""Inspects a data set and reports its problems. No TensorFlow."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from keras_bench.audit.findings import Audit
from keras_bench.audit.inspect import audit_images
from keras_bench.audit.page import audit_page, audit_tables
from keras_bench.backbones.table import BACKBONES
from keras_bench.config import Config, Experiment, Layer, load_experiment, parse_setting
from keras_bench.console import Log
from keras_bench.data.sources import guess_source, open_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore
from keras_bench.errors import UserError
from keras_bench.files import write_json, write_text


@dataclass(frozen=True)
class AuditRequest:
    """The options of the command line, unchecked.

    Attributes:
        data: folder or file; None for sources that need no path.
        experiment: experiment whose data settings apply; None: the defaults.
        source: name of the source; None: the experiment's, or guessed from the layout of `data`.
        settings: values of --set, in order.
        json: file to write the findings to; None: no file.
        html: file to write the page to; None: no file.
        force: whether existing files may be replaced.
    """

    data: Path | None
    experiment: str | None
    source: str | None
    settings: tuple[str, ...]
    json: Path | None
    html: Path | None
    force: bool


def run_audit(request: AuditRequest, log: Log) -> int:
    """Print and write the findings; returns 0 for clean data, 1 if there are problems.

    Raises:
        UserError: the data cannot be opened, or an output file already exists.
    """
    for path in (request.json, request.html):
        if path is not None and path.exists() and not request.force:
            raise UserError(f"{path} exists; choose another name, or replace it with --force")
    config = _resolve_config(request)
    index = open_source(config.dataset, request.data, log)
    store = ImageStore(index, config.runtime.cache_memory_mb << 20, config.dataset.max_megapixels)
    fingerprint = store.fingerprint(log)
    store.load(log)
    splits = split_images(index, config.dataset, store.readable)
    audit = audit_images(index, splits, store, fingerprint, log)
    _print_and_write(audit, [*index.warnings, *splits.warnings], request, log)
    return 1 if audit.problems else 0


def _resolve_config(request: AuditRequest) -> Config:
    """Return the experiment's configuration, or the defaults for the source that matches the data's layout."""
    layers = [parse_setting(text) for text in request.settings]
    if request.experiment is not None:
        experiment = load_experiment(request.experiment)
    else:
        source = guess_source(request.data) if request.data else "digits"
        experiment = Experiment(Path("audit"), Layer("audit", {"name": "audit", "dataset": {"source": source}}), {})
    if request.source is not None:
        layers.append(Layer("--source", {"dataset": {"source": request.source}}))
    return experiment.resolve(next(iter(experiment.models or BACKBONES)), layers)


def _print_and_write(audit: Audit, warnings: list[str], request: AuditRequest, log: Log) -> None:
    for table in audit_tables(audit):
        log.table(table)
    for line in [*warnings, *audit.problems]:
        log.warn(line)
    if audit.pretraining_overlap:
        log.line(f"note: {audit.pretraining_overlap}")
    if request.json:
        write_json(request.json, audit.to_json())
        log.line(f"written: {request.json}")
    if request.html:
        write_text(request.html, audit_page(audit))
        log.line(f"written: {request.html}")
    log.line(f"{len(audit.problems)} problems found" if audit.problems else "no problem found")
    if request.data and not audit.problems:
        log.line(f"next: {_next_command(request.experiment or 'folder', request.data, audit.source)}")


def _next_command(name: str, data: Path, source: str) -> str:
    """Return the command that plans a run of an experiment on the audited data, read as the audit read it."""
    experiment = load_experiment(name)
    own_source = experiment.resolve(next(iter(experiment.models or BACKBONES)), []).dataset.source
    setting = [] if source == own_source else ["--set", f"dataset.source={source}"]
    return shlex.join(["keras-bench", "run", "--experiment", name, "--data", str(data), *setting, "--dry-run"])
