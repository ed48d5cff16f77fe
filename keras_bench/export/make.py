"""Makes one bundle: converts the model, checks it on test images, tries 8 bits, and only then names the bundle."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_bench.bundle.model import Bundle
from keras_bench.bundle.sums import CARD, FLOAT_MODEL, INT8_MODEL, SIGNATURE, VERIFICATION
from keras_bench.config import Config
from keras_bench.console import Log
from keras_bench.cost.latency import LATENCY, LatencySetting, measure_alone
from keras_bench.environment import describe_environment
from keras_bench.errors import ExportError, is_out_of_memory, one_line
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import proportion_interval, share_interval
from keras_bench.export.earlier import place_to_keep, report_replaced
from keras_bench.export.int8 import quantize_bundle
from keras_bench.export.places import positions_by_id, run_bundle
from keras_bench.export.records import Agreement, Int8, Verification
from keras_bench.files import replacing_folder, sweep, write_json
from keras_bench.locks import sweep_unlocked, wait_for_lock
from keras_bench.runs.data import Data

SAMPLE_IMAGES = 3
LICENSE_NOTE = (
    "The pretrained weights this model started from come under their own licence, and the training images under "
    "theirs; keras-bench adds none of its own to the model."
)


@dataclass(frozen=True)
class BundlePlan:
    """Everything a bundle is made from.

    Attributes:
        title: name of the export, for the screen.
        folder: the bundle's folder.
        members: .keras files and their weights in the average; a single model has weight 1.
        image_size: input side of the first member, pixels.
        origin: facts about the model's origin, for the model file and verification.json.
        config: the configuration, for its settings of data, export and latency.
        data: the images.
        val: Keras's predictions on val.
        test: Keras's predictions on test.
        card: function from the verification to the text of MODEL_CARD.md.
    """

    title: str
    folder: Path
    members: list[tuple[Path, float]]
    image_size: int
    origin: dict[str, object]
    config: Config
    data: Data
    val: Predictions
    test: Predictions
    card: Callable[[Verification], str]


@contextmanager
def lock_bundle(folder: Path, log: Log) -> Iterator[None]:
    """Lock a bundle's folder, waiting for a process that is making it, and remove what killed ones left of it.

    A killed process may also have put the earlier bundle aside; that one is restored.
    """
    with wait_for_lock(_lock_file(folder), f"making {folder}", log):
        sweep(folder.parent, folder.name.__eq__)
        try:
            yield
        finally:
            _lock_file(folder).unlink(missing_ok=True)  # while it is held, so that a waiting process notices
    sweep_unlocked(folder.parent, lambda name: _lock_file(folder.with_name(name)))


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def make_bundle(plan: BundlePlan, log: Log) -> Verification:
    """Write a checked bundle, which replaces an earlier one of the same name; what a user put into that is kept.

    Raises:
        ExportError: the model cannot be converted, or disagrees with Keras; nothing is left behind.
    """
    kept, was_signed = None, False

    def keep() -> Path | None:
        nonlocal kept, was_signed
        kept, was_signed = place_to_keep(plan.folder), (plan.folder / SIGNATURE).is_file()
        return kept

    with lock_bundle(plan.folder, log), replacing_folder(plan.folder, keep) as folder:
        log.line(f"{plan.title}: converting to ONNX")
        _write_float_model(plan, folder)
        test = _test_images_to_verify(plan)
        agreement = _verify_against_keras(plan, folder, test, log)
        log.line(
            f"{plan.title}: same predictions as Keras on {agreement.images:,} test images "
            f"({agreement.ties} near ties), largest difference of a probability {agreement.max_difference:.1e}"
        )
        int8 = Int8(False, "not measured: export.int8 is off")
        if plan.config.export.int8:
            int8 = quantize_bundle(plan.title, plan.config.export, plan.data, folder, plan.val, test, log)
        _write_samples(plan, folder, test, int8)
        verification = _write_verification(plan, folder, agreement, int8, log)
    log.line(f"bundle:  {plan.folder}")
    report_replaced(plan.folder, kept, was_signed, log)
    return verification


def _write_float_model(plan: BundlePlan, folder: Path) -> None:
    """Write model.onnx and labels.json."""
    from keras_bench.export.files import write_labels, write_sums
    from keras_bench.models.onnx import save, to_onnx
    from keras_bench.models.weights import load_model

    index = plan.data.index
    names = [str(name) for name in plan.test.class_names]
    titles = dict(zip(index.class_names, index.class_titles, strict=True))
    metadata = {
        **plan.origin,
        "class_names": names,
        "image_size": plan.image_size,
        "max_megapixels": plan.config.dataset.max_megapixels,
        "license": LICENSE_NOTE,
    }
    members = [(load_model(file), weight) for file, weight in plan.members]
    try:
        graph = to_onnx(members, metadata)
    except Exception as error:  # tf2onnx and onnx raise exceptions of many kinds, without a common base class
        if is_out_of_memory(error):
            raise
        raise ExportError(f"{plan.title}: the model could not be converted ({one_line(error)})") from error
    save(graph, folder / FLOAT_MODEL)
    write_labels(folder, names, [titles[name] for name in names])
    write_sums(folder)


def _test_images_to_verify(plan: BundlePlan) -> Predictions:
    """Return the test predictions to compare the bundle with: all, or `export.verify_images` drawn at random."""
    count, limit = len(plan.test.ids), plan.config.export.verify_images
    if limit is None or limit >= count:
        return plan.test
    return plan.test.rows(np.sort(np.random.default_rng(0).permutation(count)[:limit]))


def _verify_against_keras(plan: BundlePlan, folder: Path, test: Predictions, log: Log) -> Agreement:
    """Return how well the bundle agrees with Keras.

    Raises:
        ExportError: it does not agree well enough.
    """
    from keras_bench.export.agreement import compare_probabilities, refusal

    positions = positions_by_id(plan.data.index, test.ids)
    onnx = run_bundle(Bundle(folder, threads=1), plan.data.store, positions, f"{plan.title}: checking", log)
    onnx_correct = onnx.argmax(axis=1) == test.labels
    agreement = compare_probabilities(
        test.probabilities, onnx, test.ids, proportion_interval(test.correct), proportion_interval(onnx_correct)
    )
    same = agreement.images - (agreement.differing - agreement.ties)
    agreement = replace(agreement, same_answer=share_interval(same, agreement.images))
    reason = refusal(agreement)
    if reason is not None:
        raise ExportError(f"{plan.title}: the ONNX model failed its check and is not exported: {reason}")
    return agreement


def _write_samples(plan: BundlePlan, folder: Path, test: Predictions, int8: Int8) -> None:
    """Write up to three test images of different classes, drawn by seed, with the models' probabilities."""
    from keras_bench.export.files import write_samples, write_sums

    order = np.random.default_rng(0).permutation(len(test.ids))
    _, first_of_class = np.unique(test.labels[order], return_index=True)
    rows = order[np.sort(first_of_class)[:SAMPLE_IMAGES]]
    positions = positions_by_id(plan.data.index, test.ids[rows])
    images = [plan.data.store.image(int(position)) for position in positions]
    files = [FLOAT_MODEL, *([INT8_MODEL] if int8.kept else [])]
    write_sums(folder)
    expected = {file: Bundle(folder, file).predict(images) for file in files}
    write_samples(folder, images, expected, [str(test.class_names[k]) for k in test.labels[rows]])


def _write_verification(plan: BundlePlan, folder: Path, agreement: Agreement, int8: Int8, log: Log) -> Verification:
    """Write verification, model card, runner and checksums."""
    from keras_bench.export.agreement import MAX_DIFFERENCE, TIE
    from keras_bench.export.files import write_sums
    from keras_bench.export.runner import write_runner
    from keras_bench.models.onnx import OPSET

    verification = Verification(
        about=plan.origin,
        data={
            "dataset": plan.config.dataset.model_dump(mode="json"),
            "fingerprint": plan.data.fingerprint,
            "test": plan.data.splits.test_origin,
            "test_images": len(plan.test.ids),
        },
        agreement=agreement,
        limits={"max_difference": MAX_DIFFERENCE, "tie": TIE},
        latency=_latencies(plan, folder, int8, log) if plan.config.latency.enabled else (),
        int8=int8,
        megabytes=(folder / FLOAT_MODEL).stat().st_size / 1e6,
        opset=OPSET,
    )
    write_json(folder / VERIFICATION, verification.to_json())
    (folder / CARD).write_text(plan.card(verification), encoding="utf-8")
    write_runner(folder)
    write_sums(folder)
    return verification


def _latencies(plan: BundlePlan, folder: Path, int8: Int8, log: Log) -> tuple[dict[str, object], ...]:
    """Return the latency at batch size 1 of Keras and of the bundle's models, each measured in a fresh process."""
    files = {"compiled": plan.members[0][0]} if len(plan.members) == 1 else {}
    files["onnxruntime"] = folder / FLOAT_MODEL
    if int8.kept:
        files["onnxruntime int8"] = folder / INT8_MODEL
    latencies = []
    title = f"{plan.title}: latency at batch size 1"
    with log.timed(LATENCY), log.progress(title, len(files), "measurements") as advance:
        for name, file in files.items():
            measurement = measure_alone(file, LatencySetting(name.split()[0], "cpu", 1), plan.config.latency)
            hardware = measurement.pop("accelerator") or describe_environment([])["cpu"]
            latencies.append({**measurement, "call": name, "hardware": hardware})
            advance(1)
    return tuple(latencies)
