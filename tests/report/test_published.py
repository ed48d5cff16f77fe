"""Published figures and claims in the report, and experiments that mix transfer learning with training from scratch."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from keras_bench.config import Config, to_yaml
from keras_bench.console import Log, table_text
from keras_bench.explain.records import Explanations
from keras_bench.files import write_bytes, write_text
from keras_bench.frames import frame_csv
from keras_bench.pages.html import jinja_environment
from keras_bench.pages.provenance import Provenance
from keras_bench.report.experiment_figures import COLORS, accuracy_for_cost, all_learning_curves, styles
from keras_bench.report.page import filled_columns, published_figures, report_page
from keras_bench.report.pareto import pareto_front
from keras_bench.report.published import measured_figure, published_text
from keras_bench.report.read import read_comparison
from keras_bench.report.study import FIGURES
from keras_bench.report.tables import comparison_table, results_frame
from keras_bench.report.verdict import verdict_lines
from keras_bench.runs.folders import RunDir, experiment_folder
from tests.made import make_run

INTEL = ["buildings", "forest", "glacier", "mountain", "sea", "street"]


def as_study(out, name):
    """Rename the experiment `made` to that of a study and return its folder."""
    folder = out / name
    (out / "made").rename(folder)
    for run in folder.glob("*/seed*"):
        write_text(run / "config.yaml", to_yaml(Config(name=name)))
    return folder


def change(run, phase, **values):
    """Change values in a run's result.json."""
    content = json.loads(run.result(phase).read_text())
    run.result(phase).write_text(json.dumps({**content, **values}))


def compared(folder, models):
    return read_comparison(
        experiment_folder(folder.parent, folder.name), [RunDir(folder / m / "seed0") for m in models], Log()
    )


def test_the_claims_of_the_intel_study_are_confirmed_contradicted_or_left_open(tmp_path):
    better = make_run(tmp_path, "EfficientNetB0", skills=(("tl", 2.0), ("ft", 5.0)), names=INTEL)
    other = make_run(tmp_path, "ResNet50", skills=(("tl", 1.0), ("ft", 1.5)), names=INTEL)
    change(better, "ft", seconds_per_epoch=30.0)
    change(other, "ft", seconds_per_epoch=20.0)
    explanations = Explanations.from_npz(better.explanations)
    focused = {method: maps.copy() for method, maps in explanations.maps.items()}
    focused["gradcam"][:] = 0
    focused["gradcam"][:, 3, 4] = 255
    write_bytes(better.explanations, replace(explanations, maps=focused).to_npz())
    folder = as_study(tmp_path, "intel")
    comparison = compared(folder, ["EfficientNetB0", "ResNet50"])
    checks = {check.claim.figure: check for check in comparison.claims}
    assert checks["val_top1"].verdict == "as published"
    assert checks["val_top1"].more == comparison.runs[0].final.result.metrics["val"].top1
    assert (checks["seconds_per_epoch"].more, checks["seconds_per_epoch"].less) == (20.0, 30.0)
    assert checks["seconds_per_epoch"].verdict == "the opposite"
    assert checks["val_falls"].verdict == "no difference shown"  # both curves only rise
    assert checks["gradcam_area"].less == pytest.approx(1 / 256)  # one of 16 × 16 pixels
    assert checks["gradcam_area"].more > 0.2  # random maps
    assert checks["gradcam_area"].verdict == "as published"
    lines = published_text(comparison)
    assert (
        "- EfficientNetB0 has the shorter epoch: the opposite (seconds per epoch: ResNet50 20.0, EfficientNetB0 30.0)"
        in lines
    )
    assert "25.0 | 4.0" in lines[1]  # parameters, millions
    page = published_part(comparison)
    assert "not comparable" not in page
    row = re.search(r"<tr><td class=\"wide\">EfficientNetB0 has the shorter epoch</td>.*?</tr>", page, re.DOTALL)[0]
    assert "<td>20.0</td>" in row
    assert "the opposite" in row
    assert "test top-1" not in page[page.index("All figures") :]  # no row states it


def test_a_claim_about_an_untrained_model_or_other_data_is_not_judged(tmp_path):
    make_run(tmp_path, "EfficientNetB0", names=INTEL)
    make_run(tmp_path, "ResNet50", names=[*INTEL[:5], "lake"])
    folder = as_study(tmp_path, "intel")
    alone = compared(folder, ["EfficientNetB0"])
    assert {check.verdict for check in alone.claims} == {"not measured here: no finished run of ResNet50"}
    (folder / "EfficientNetB0").rename(tmp_path / "away")
    make_run(tmp_path, "EfficientNetB0", names=[*INTEL[:5], "lake"])
    (tmp_path / "made" / "EfficientNetB0").rename(folder / "EfficientNetB0")
    other = compared(folder, ["EfficientNetB0", "ResNet50"])
    assert {check.verdict for check in other.claims} == {"other data, not comparable"}
    assert other.study.difference == "other classes"


def test_figures_that_are_not_comparable_are_marked_with_the_reason(tmp_path):
    make_run(tmp_path, "ResNet34", skills=(("scratch", 2.0),))
    comparison = compared(as_study(tmp_path, "imagenet100"), ["ResNet34"])
    page = published_part(comparison)
    assert "† Other data here: not comparable</strong> (several lists of 100 classes go by this name" in page
    row = re.search(
        r"<tr><td>ResNet34</td><td class=\"left\">scratch</td>\s*<td>63.0 † \| [0-9.]+</td>.*?</tr>", page, re.DOTALL
    )[0]
    top1 = comparison.runs[0].phases["scratch"].result.metrics["val"].top1
    for text in (row, "\n".join(published_text(comparison))):
        assert f"63.0 † | {100 * top1:.1f}" in text
        assert "31,906 † | 8" in text
        assert "0.188 † | —" in text
    assert comparison.runs[0].label == "ResNet34"  # all runs trained from scratch, so none is marked


def test_published_models_that_were_not_trained_are_named_in_one_line(tmp_path):
    make_run(tmp_path, "ResNet34", skills=(("scratch", 2.0),))
    comparison = compared(as_study(tmp_path, "imagenet100"), ["ResNet34"])
    line = "Also published, but not trained here: ResNet50, EfficientNetB0, ResNet18."
    page = published_part(comparison)
    assert f'<p class="note">{line}</p>' in page
    assert re.findall(r'<tr><td>(\w+)</td><td class="left">(\w+)</td>', page) == [("ResNet34", "scratch")]
    text = "\n".join(published_text(comparison))
    assert line in text
    assert re.findall(r"│ (ResNet\d+|EfficientNet\w+)", text) == ["ResNet34"]


def test_a_study_of_only_other_models_and_phases_takes_one_line(tmp_path):
    make_run(tmp_path, "MobileNet", names=[f"n{k}" for k in range(9)], images=90)
    make_run(tmp_path, "VGG16", skills=(("tl", 2.0),), names=[f"n{k}" for k in range(9)], images=90)
    folder = as_study(tmp_path, "tiny-imagenet")
    alone = compared(folder, ["MobileNet"])
    names = "VGG16, ResNet50, EfficientNetB0"
    assert published_text(alone)[2:] == [f"Also published, but not trained here: {names}."]
    assert "<table" not in published_part(alone)
    assert "published" not in filled_columns(alone)
    both = compared(folder, ["MobileNet", "VGG16"])
    assert published_text(both)[-1].endswith("not trained here: ResNet50, EfficientNetB0, VGG16 (ft).")
    assert "57.5 † | " in published_part(both)
    assert "published" in filled_columns(both)


def test_published_megabytes_are_mebibytes(tmp_path):
    make_run(tmp_path, "ResNet50", skills=(("tl", 2.0),))
    run = compared(tmp_path / "made", ["ResNet50"]).runs[0]
    # ResNet50 without top, a hidden layer of 256 and 200 classes, by hand.
    parameters = 23_587_712 + (2048 + 1) * 256 + (256 + 1) * 200
    ours = measured_figure(replace(run, cost=replace(run.cost, weight_bytes=4 * parameters)), "tl", "megabytes")
    assert ours == pytest.approx(92.2, abs=0.05)
    assert ours == pytest.approx(92.8, rel=0.01)  # what the source of tiny-imagenet prints as "MB"
    assert FIGURES["megabytes"][0] == "weights, MiB"


def published_part(comparison):
    """The part of the page about the published figures and claims."""
    return (
        jinja_environment()
        .get_template("report_published.html.j2")
        .render(c=comparison, **published_figures(comparison))
    )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed")
    make_run(out, "ResNet18", skills=(("scratch", 1.5),))
    make_run(out, "ResNet50", skills=(("tl", 2.0), ("ft", 4.0)))
    return compared(out / "made", ["ResNet18", "ResNet50"])


def test_every_table_marks_the_runs_from_scratch_among_transferred_ones(mixed):
    names = ("accuracy_for_cost", "learning_curves", "epoch_seconds", "reliability", "coverage", "accuracy_for_latency")
    page = report_page(
        mixed, dict.fromkeys([*names, "confusion_0", "confusion_1"], "<svg></svg>"), Provenance("today", "1")
    )
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    naming = [table for table in tables if "ResNet18" in table]
    assert len(naming) > 6
    for table in naming:
        assert table.count("ResNet18") == table.count("ResNet18 (scratch)")
    assert "ResNet50 (scratch)" not in page
    summary = table_text(comparison_table(mixed)) + "\n".join(mixed.verdict)
    assert summary.count("ResNet18") == summary.count("ResNet18 (scratch)") >= 2
    rows = csv.DictReader(io.StringIO(frame_csv(results_frame(mixed))))
    assert {(row["model"], row["phase"]) for row in rows} == {
        ("ResNet18", "scratch"), ("ResNet50", "tl"), ("ResNet50", "ft"),
    }  # fmt: skip


def test_runs_from_scratch_among_transferred_ones_are_hollow_in_the_figures(mixed):
    runs = mixed.runs
    assert {run.label: style.fill == "white" for run, style in zip(runs, styles(runs), strict=True)} == {
        "ResNet50": False,
        "ResNet18 (scratch)": True,
    }
    for axes in accuracy_for_cost(runs, pareto_front).axes:
        assert {text.get_text() for text in axes.texts} == {"ResNet50", "ResNet18 (scratch)"}
    legend = all_learning_curves(runs).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ResNet50", "ResNet18 (scratch)"]


def test_a_name_that_ends_in_scratch_does_not_mark_a_run(mixed):
    transferred, scratch = mixed.runs
    misleading = [replace(transferred, name="net (scratch)"), replace(scratch, name="net, from scratch")]
    assert [style.fill == "white" for style in styles(misleading)] == [False, True]
    assert [run.label for run in misleading] == ["net (scratch)", "net, from scratch (scratch)"]
    (best, *_) = verdict_lines(misleading, [], [], mixed.decision)
    assert best.startswith("Best: net (scratch) (ft), chosen on val")


def test_many_models_are_drawn_as_families_whose_labels_do_not_overlap(tmp_path):
    names = ["ResNet18", "ResNet50", "ResNet101", "ResNet152"] + [f"EfficientNetB{k}" for k in range(6)]
    for number, name in enumerate(names):
        final = "scratch" if name == "ResNet18" else "tl"
        make_run(tmp_path, name, skills=((final, 2 + 0.1 * number),), images=80)
    runs = compared(tmp_path / "made", names).runs
    looks = dict(zip((run.model for run in runs), styles(runs), strict=True))
    assert {looks[name].color for name in names[:4]} == {COLORS[1]}
    assert {looks[name].color for name in names[4:]} == {COLORS[0]}
    assert len({looks[name].marker for name in names[4:]}) == 6
    figure = accuracy_for_cost(runs, pareto_front)
    misleading = accuracy_for_cost([replace(run, name=f"{run.name} (scratch)") for run in runs], pareto_front)
    joined = next(line for line in misleading.axes[1].lines if line.get_label() == "ResNet")
    assert len(joined.get_xdata()) == 3
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["EfficientNet", "ResNet"]
        joined = next(line for line in axes.lines if line.get_label() == "ResNet")
        assert len(joined.get_xdata()) == 3  # not the one from scratch
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 10
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
