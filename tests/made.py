"""Finished run folders made from random numbers, for tests of everything rebuilt from them without TensorFlow."""

import csv
import io

import numpy as np
from PIL import Image

from keras_bench.config import Config, to_yaml
from keras_bench.cost.records import Cost, Latency, latencies_to_json
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.records import EXPLANATION_METHODS, RANDOM, ExplanationChecks, Explanations, MethodScores
from keras_bench.files import write_bytes, write_json, write_text
from keras_bench.report.read import shown_positions
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import HISTORY_COLUMNS
from keras_bench.runs.results import PhaseResult

HARDWARE = "a made-up processor"
ENVIRONMENT = {
    "python": "3.11.9",
    "packages": {"keras-bench": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1"},
    "cpu": HARDWARE,
    "cores": 2,
    "accelerators": [],
    "commit": "0123456789ab",
    "time": "2026-01-01T00:00:00+00:00",
}


def predictions(labels, names, skill, seed):
    """Return predictions that are correct more often the greater the skill."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), len(names)))
    logits[np.arange(len(labels)), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = np.array([f"test/image {i:05d}.jpg" for i in range(len(labels))])
    return Predictions(ids, labels, probabilities.astype(np.float32), np.array(names))


def history_csv(epochs, skill):
    """Return a history.csv whose top-1 rises with the epoch and the skill."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, HISTORY_COLUMNS)
    writer.writeheader()
    for epoch in range(1, epochs + 1):
        top1 = skill / 5 * epoch / epochs
        row = {"epoch": epoch, "seconds": 2.0, "train_seconds": 1.5, "learning_rate": 1e-3, "loss": 1.5}
        row |= {"cross_entropy": 2 - top1, "top1": top1, "val_loss": 1.5, "val_cross_entropy": 2.1 - top1}
        writer.writerow({**row, "val_top1": top1 - 0.05})
    return stream.getvalue()


def make_run(
    out, model, seed=0, *, skills=(("tl", 1.5), ("ft", 2.5)), names=None, titles=None, images=200, label_seed=0
):
    """Write one finished run whose phases have the given skills, with its costs, latencies and explanations."""
    run = run_folder(out, "made", model, seed)
    make_training(run, skills, names, titles, images, label_seed)
    final = skills[-1][0]
    _make_parts_after_training(run, final, Predictions.from_npz(run.predictions(final, "test")))
    write_json(run.run, {"experiment": "made", "model": model, "seed": seed, "final_phase": final})
    return run


def make_training(run, skills, names=None, titles=None, images=200, label_seed=0, inputs=None):
    """Write the files of a trained run, except run.json; `inputs` holds the inputs recorded for each phase."""
    names, seed = names or [f"class{k}" for k in range(8)], run.seed
    labels = np.random.default_rng(label_seed).permutation(np.arange(images) % len(names))
    write_text(run.config, to_yaml(Config(name="made", title="a made-up study")))
    write_json(run.environment, {**ENVIRONMENT, "weights_sha256": "none", "seed": seed, "command": [], "locations": {}})
    counts = {name: {"train": 50 + 10 * k, "val": 10, "test": 25} for k, name in enumerate(names)}
    dataset = {"source": "folder", "fingerprint": "f" * 32, "class_names": names, "class_titles": titles or names}
    dataset |= {"images": {"train": 400, "val": 80, "test": images}, "images_per_class": counts}
    dataset |= {"test_origin": "made up", "image_sizes": ["32x32"], "unreadable": {}, "warnings": []}
    write_json(run.dataset, dataset)
    for number, (phase, skill) in enumerate(skills):
        _make_phase(run, phase, skill, labels, names, seed + 10 * number, (inputs or {}).get(phase))


def _make_phase(run, phase, skill, labels, names, seed, inputs):
    salt = sum(map(ord, run.model_name))
    by_split = {
        "val": predictions(labels[:80], names, skill, salt + seed + 1),
        "test": predictions(labels, names, skill, salt + seed),
    }
    for split, split_predictions in by_split.items():
        write_bytes(run.predictions(phase, split), split_predictions.to_npz())
    write_text(run.history(phase), history_csv(4, skill))
    metrics = {split: compute_metrics(split_predictions) for split, split_predictions in by_split.items()}
    inputs = inputs or {"data": "f" * 32, "weights": "none", "dataset.image_size": 32, "model.alpha": None}
    result = PhaseResult(
        phase, 3, 4, 8.0, 2.0, 150.0, 4_000_000, 300_000, 900.0, metrics, inputs, {"xla": False}, ENVIRONMENT
    )
    write_json(run.result(phase), result.to_json())


def _make_parts_after_training(run, final, test):
    salt = sum(map(ord, run.model_name))
    cost = Cost(32, 4_000_000, salt * 1_000_000, 2 * salt * 1_000_000, 16_000_000, 17_000_000)
    write_json(run.cost, {"phase": final, "model_sha256": "", **cost.to_json()})
    session = "2026-01-01T00:00:00+00:00"
    latencies = [
        Latency(call, "cpu", HARDWARE, 2, size, 10, 200, 5.0 + size, 6.0 + size, 7.0 + size, 5.5, 700.0, 500.0, session)
        for call in ("predict", "compiled")
        for size in (1, 8)
    ]
    write_json(run.latency, latencies_to_json({}, latencies))
    generator = np.random.default_rng(0)
    count = 12
    images = generator.integers(0, 255, (count, 32, 32, 3)).astype(np.uint8)
    maps = {method: generator.integers(0, 255, (count, 16, 16)).astype(np.uint8) for method in EXPLANATION_METHODS}
    explanations = Explanations(test.ids[:count], images, maps, test.predicted[:count])
    write_bytes(run.explanations, explanations.to_npz())
    scores = {
        method: _scores(count, gain) for method, gain in zip(EXPLANATION_METHODS, (0.0, 0.1, 0.3, 0.3), strict=True)
    }
    checks = ExplanationChecks(
        final,
        "layer",
        {},
        tuple(map(str, explanations.ids)),
        tuple(map(bool, test.correct[:count])),
        (0.3,) * count,
        {**scores, RANDOM: _scores(count, 0.0)},
    )
    write_json(run.explanation_checks, checks.to_json())
    for i in shown_positions(test):
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(stream, "JPEG")
        write_bytes(run.thumbnail(str(test.ids[i])), stream.getvalue())


def _scores(images, gain):
    wave = np.linspace(-0.05, 0.05, images)
    deletion, insertion = tuple(0.4 - gain / 2 + wave), tuple(0.4 + gain / 2 + wave * 1.1)
    hits, mass = (1.0,) * images, (0.5,) * images
    return MethodScores(deletion, insertion, hits, mass, tuple(0.1 + wave), tuple(wave))
