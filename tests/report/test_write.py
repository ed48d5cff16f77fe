"""The report: rebuilt from run folders alone, refused for runs that are not comparable, readable in a browser."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.config import Config, to_yaml
from keras_bench.console import Log
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval, MethodVerdict
from keras_bench.files import write_text
from keras_bench.report.explained import shown_method
from keras_bench.report.memory import ReportMemory
from keras_bench.report.outlook import NOTHING_FOLLOWS
from keras_bench.report.page import PICTURED
from keras_bench.report.write import finished_runs, write_report_so_far
from keras_bench.runs.folders import ExperimentDir, experiment_folder, run_folder
from keras_bench.workflow.compare import compare_runs
from tests.checks import loaded_by
from tests.made import make_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium's own requests, for updates, the time and accounts.
BROWSER_REQUESTS = r"https?://(update|clients\d|accounts|www|optimizationguide-pa|content-autofill|redirector)\.g(oogle|oogleapis|vt1)\.com/"
HOSTILE = [
    "<script>document.title='stolen'</script>",
    "</style><img src=http://example.org/x.png>",
    "قطة صغيرة",
    "🦔 hedgehog $x_1$",
    "w" * 200,
    "quo\"te' & {{ 7 * 7 }}",
    "plain",
    "pipe | star * `tick`",
]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Three models, one of them with two seeds; ResNet50 is best on val. `report` has run once."""
    out = tmp_path_factory.mktemp("runs")
    make_run(out, "MobileNet", skills=(("tl", 1.0), ("ft", 1.2)))
    make_run(out, "ResNet50", skills=(("tl", 2.0), ("ft", 4.0)))
    make_run(out, "VGG16", skills=(("tl", 2.0), ("ft", 3.7)))
    make_run(out, "VGG16", seed=1, skills=(("tl", 2.0), ("ft", 3.3)))
    assert main(["report", "made", "--out", str(out)]) == 0
    return out


def test_the_report_needs_no_tensorflow(experiment):
    code, _, loaded = loaded_by(["report", "made", "--out", experiment])
    assert (code, loaded) == (0, [])


def test_all_documented_files_are_written(experiment):
    folder = experiment / "made"
    for name in ("index.html", "results.csv", "summary.txt"):
        assert (folder / name).stat().st_size > 500
    for name in ("learning_curves", "accuracy_for_cost", "epoch_seconds", "reliability", "coverage", "explanations"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / "figures" / f"{name}.svg").read_text()
    run = run_folder(experiment, "made", "ResNet50", 0)
    assert (run.figures / "confusion_matrix.svg").is_file()
    assert "ResNet50" in run.model_card.read_text()
    assert not list(experiment.rglob(".writing*"))


def test_report_and_model_card_name_the_file_of_the_initial_weights(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    environment = json.loads(run.environment.read_text())
    locations = {"data": "x", "weights": "/home/me/.keras/models/mobilenet_7_5_128_tf_no_top.h5"}
    run.environment.write_text(
        json.dumps({**environment, "weights_sha256": "0123456789abcdef" * 4, "locations": locations})
    )
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    card, page = run.model_card.read_text(), (tmp_path / "made" / "index.html").read_text()
    assert f"Started from the weights in `mobilenet_7_5_128_tf_no_top.h5`, sha256 {'0123456789abcdef' * 4}." in card
    assert '<td class="left">mobilenet_7_5_128_tf_no_top.h5 (sha256 0123456789ab)</td>' in page
    assert "/home/me" not in card + page


def test_report_and_model_card_name_the_authors_of_the_images(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    dataset = json.loads(run.dataset.read_text())
    run.dataset.write_text(json.dumps({**dataset, "attribution": "photographs by Ann, CC BY 2.0"}))
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    assert "photographs by Ann, CC BY 2.0" in (tmp_path / "made" / "index.html").read_text()
    assert "photographs by Ann, CC BY 2.0" in run.model_card.read_text()


def test_results_contain_the_metrics_of_the_saved_predictions_inside_their_intervals(experiment):
    with (experiment / "made" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    assert next(row["model"] for row in rows if row["final"] == "True") == "ResNet50"
    for row in rows:
        run = run_folder(experiment, "made", row["model"], int(row["seed"]))
        metrics = compute_metrics(Predictions.from_npz(run.predictions(row["phase"], "test")))
        for name in ("top1", "top5", "macro_f1", "macro_auc", "cross_entropy"):
            value = float(row[f"test_{name}"])
            assert value == getattr(metrics, name)
            assert float(row[f"test_{name}_low"]) <= value <= float(row[f"test_{name}_high"])
    assert float(rows[0]["compiled_cpu_batch1_p50_ms"]) == 6.0


def test_the_summary_gives_the_verdict_in_words(experiment):
    text = (experiment / "made" / "summary.txt").read_text()
    assert "Best: ResNet50 (ft), chosen on val" in text
    assert "MobileNet: worse than the best." in text
    assert "VGG16: worse than the best. Its test top-1 is 4.0 points lower" in text
    assert "Cheaper: val shows no difference between ResNet50 and VGG16" in text
    assert ", but is worse on test." in text


def test_class_tables_agree_with_the_saved_predictions(experiment):
    run = run_folder(experiment, "made", "VGG16", 0)
    test = Predictions.from_npz(run.predictions("ft", "test"))
    with run.class_report("ft").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == [f"class{k}" for k in range(8)]
    for k, row in enumerate(rows):
        assert float(row["recall"]) == pytest.approx(test.correct[test.labels == k].mean())
        assert int(row["images"]) == (test.labels == k).sum()


def test_runs_tested_on_different_images_are_refused_and_named(tmp_path, capsys):
    make_run(tmp_path, "MobileNet")
    make_run(tmp_path, "VGG16", images=120)
    make_run(tmp_path, "ResNet50", label_seed=5)
    assert main(["report", "made", "--out", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert "tested on different images or classes and cannot be compared" in line
    assert "MobileNet/seed0 (200 images)" in line
    assert "VGG16/seed0 (120 images)" in line
    assert "ResNet50/seed0 (200 images)" in line  # the same images with other labels
    assert re.search(r"the first two have different labels for 1\d\d of the images, e\.g\. test/image \d{5}\.jpg", line)
    assert main(["report", "made", "--out", str(tmp_path), "--model", "VGG16", "--model", "MobileNet"]) == 2
    assert "only one of the first two has 80 of the images, e.g. test/image 00120.jpg" in capsys.readouterr().err
    assert not (tmp_path / "made" / "index.html").exists()
    assert main(["report", "made", "--out", str(tmp_path), "--model", "VGG16"]) == 0
    assert "One model only" in (tmp_path / "made" / "index.html").read_text()


def test_errors_are_reported_in_one_line(tmp_path, capsys):
    assert main(["report", "nothing", "--out", str(tmp_path)]) == 2
    assert "holds no runs; expected" in capsys.readouterr().err
    run = make_run(tmp_path, "MobileNet")
    assert main(["report", "made", "--out", str(tmp_path), "--model", "MobileNe"]) == 2
    assert "unknown finished model 'MobileNe'; did you mean 'MobileNet'" in capsys.readouterr().err
    run.run.unlink()
    assert main(["report", str(run.root.parents[1])]) == 2
    assert f"no run can be compared: {run.run} is missing; the command" in capsys.readouterr().err
    run.cost.unlink()  # it is written after run.json
    assert main(["report", str(run.root.parents[1])]) == 2
    text = capsys.readouterr().err
    assert f"holds no finished run: {run.run} is missing; the command that made the run makes it again" in text
    assert main(["export", str(run.root)]) == 2
    assert f"{run.root} holds no finished run: {run.run} is missing; the command" in capsys.readouterr().err


def test_an_unchanged_comparison_is_printed_again_and_a_changed_one_is_rebuilt(tmp_path, capsys):
    run = make_run(tmp_path, "MobileNet")
    folder = experiment_folder(tmp_path, "made")
    compare_runs(folder, Log())
    first_time = folder.page.stat().st_mtime_ns
    assert capsys.readouterr().out.endswith(folder.summary.read_text())
    compare_runs(folder, Log())
    assert folder.page.stat().st_mtime_ns == first_time
    assert capsys.readouterr().out == folder.summary.read_text()
    moved = folder.root.rename(tmp_path / "moved")
    compare_runs(ExperimentDir(moved), Log())
    assert capsys.readouterr().out.endswith(f"report:  {moved}/index.html\ntable:   {moved}/results.csv\n")
    assert ExperimentDir(moved).page.stat().st_mtime_ns == first_time
    moved.rename(folder.root)
    os.utime(run.run)
    compare_runs(folder, Log())
    assert folder.page.stat().st_mtime_ns != first_time
    second_time = folder.page.stat().st_mtime_ns
    make_run(tmp_path, "VGG16")
    compare_runs(folder, Log())
    assert folder.page.stat().st_mtime_ns != second_time
    assert "VGG16" in folder.summary.read_text()


def test_runs_that_cannot_be_compared_do_not_make_finished_work_fail(tmp_path, capsys):
    make_run(tmp_path, "MobileNet")
    make_run(tmp_path, "VGG16", images=120)
    compare_runs(experiment_folder(tmp_path, "made"), Log())
    assert "warning: no comparison: these runs were tested on different images" in capsys.readouterr().out


def test_the_page_says_if_grad_cam_does_not_use_the_last_map(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    assert "since the last map is" not in (tmp_path / "made" / "index.html").read_text()
    tree = json.loads(run.explanation_checks.read_text())
    write_text(run.explanation_checks, json.dumps({**tree, "layer_side": 4, "last_side": 1}))
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "made" / "index.html").read_text()
    assert "MobileNet: Grad-CAM uses layer layer (4×4), since the last map is 1×1." in page


def test_the_page_names_the_parts_that_were_not_measured(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    for path in (run.cost, run.latency, run.explanations, run.explanation_checks):
        path.unlink()
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "made" / "index.html").read_text()
    assert "not counted: cost.json is missing" in page
    assert "latency was not measured" in page
    assert "`keras-bench report made --measure` adds it" in page
    assert "MobileNet: explanations are missing; repeating the run command adds them." in page
    assert "MobileNet: not exported." in page


def test_published_figures_count_as_comparable_only_if_the_data_is_the_same(tmp_path):
    run = make_run(tmp_path, "VGG16")
    folder = tmp_path / "tiny-imagenet"
    (tmp_path / "made").rename(folder)
    write_text(folder / "VGG16" / "seed0" / "config.yaml", to_yaml(Config(name="tiny-imagenet")))
    assert main(["report", str(folder)]) == 0
    page = (folder / "index.html").read_text()
    assert "† Other data here: not comparable" in page
    assert '<span class="ends">study 63.5 †</span>' in page
    assert '("study") the published figures' in page
    moved = run_folder(tmp_path, "tiny-imagenet", run.model_name, 0)
    names = [f"n{k:08d}" for k in range(200)]
    make_run(tmp_path, "VGG16", names=names, images=1000)
    shutil.rmtree(moved.root)
    shutil.move(run.root, moved.root)
    tree = json.loads(moved.dataset.read_text())
    moved.dataset.write_text(json.dumps({**tree, "source": "tiny-imagenet"}))
    assert main(["report", str(folder)]) == 0
    page = (folder / "index.html").read_text()
    assert "not comparable" not in page
    assert '<span class="ends">study 63.5</span>' in page  # VGG16 after fine-tuning, as published


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    out = tmp_path_factory.mktemp("hostile")
    make_run(out, "MobileNet", names=HOSTILE)
    make_run(out, "VGG16", names=HOSTILE)
    assert main(["report", "made", "--out", str(out)]) == 0
    return out / "made"


def test_class_names_cannot_become_markup(hostile):
    page = (hostile / "index.html").read_text()
    assert "<script>document.title" not in page
    assert "<img src=http" not in page
    assert "&lt;script&gt;document.title" in page
    assert "{{ 7 * 7 }}" in page
    card = (hostile / "MobileNet" / "seed0" / "MODEL_CARD.md").read_text()
    assert "<script>" not in card
    assert r"pipe \| star \* \`tick\`" in card


def in_browser(page, folder, script):
    """Run a script in a page in a headless browser; return the final title, console messages and requested URLs."""
    probe = folder / "probe.html"
    probe.write_text(page.read_text() + script)
    log = folder / "net.json"
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--disable-background-networking"]
    command += [
        "--disable-component-update",
        "--no-first-run",
        "--virtual-time-budget=4000",
        "--dump-dom",
        probe.as_uri(),
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr[-500:]
    title = re.search(r"<title>(.*?)</title>", process.stdout, re.DOTALL)
    console = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    urls = set(re.findall(r'"url":"((?:http|ws|ftp)[^"]*)"', log.read_text()))
    return title[1], console, {url for url in urls if not re.match(BROWSER_REQUESTS, url)}


SORT = """<script>
const table = document.querySelector("#comparison table.sortable");
const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith("test top-1"));
const button = table.tHead.rows[0].cells[column].querySelector("button");
const values = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].dataset.sort));
const sorted = (list, sign) => list.every((value, i) => i === 0 || sign * list[i - 1] <= sign * value);
button.focus();
const focused = document.activeElement === button;
button.click();
const high = sorted(values(), -1), first = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
button.click();
const low = sorted(values(), 1), second = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
const bare = [...document.images].filter((image) => !image.alt || !image.complete || !image.naturalWidth).length;
const fetched = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length;
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth + 1;
document.title = JSON.stringify([focused, high, first, low, second, bare, fetched, wide, document.images.length > 20]);
</script>"""


@pytest.mark.skipif(not BROWSER, reason="needs Chromium (Debian: apt install chromium)")
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_page_opens_offline_sorts_and_requests_nothing(kind, experiment, hostile, tmp_path):
    page = (experiment / "made" if kind == "plain" else hostile) / "index.html"
    title, console, requests = in_browser(page, tmp_path, SORT)
    assert json.loads(title.replace("&quot;", '"')) == [True, True, "descending", True, "ascending", 0, 0, False, True]
    assert console == []
    assert requests == set()


@pytest.fixture(scope="module")
def widest(tmp_path_factory):
    """A page with all columns filled and long names: a study with every figure and more than five classes."""
    out = tmp_path_factory.mktemp("widest")
    for model in ("InceptionResNetV2", "ResNet50", "EfficientNetB0"):
        make_run(out, model)
    make_run(out, "MobileNetV3Large", seed=10)
    (out / "made").rename(out / "tiny-imagenet")
    for path in (out / "tiny-imagenet").glob("*/*/config.yaml"):
        write_text(path, to_yaml(Config(name="tiny-imagenet")))
    assert main(["report", str(out / "tiny-imagenet")]) == 0
    return (out / "tiny-imagenet" / "index.html").read_text()


FRAMED = """<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach((part) => { part.open = true; });
  const cut = [...page.querySelectorAll(".scroll")].filter((part) => part.scrollWidth > part.clientWidth);
  const names = cut.map((part) => part.querySelector("table").textContent.trim().slice(0, 40));
  document.title = JSON.stringify([root.clientWidth, root.scrollWidth > root.clientWidth, names]);
});
frame.srcdoc = new TextDecoder().decode(Uint8Array.from(atob("PAGE"), (letter) => letter.charCodeAt(0)));
</script>"""


@pytest.mark.skipif(not BROWSER, reason="needs Chromium (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [1280, 390])
def test_tables_fit_a_page_of_1280_pixels_and_the_page_fits_a_narrow_screen(width, widest, tmp_path):
    frame = tmp_path / "frame.html"
    frame.write_text(f"<title></title><body style='margin:0'><iframe width={width} height=900 frameborder=0></iframe>")
    page = base64.b64encode(widest.encode()).decode()
    title, console, _ = in_browser(frame, tmp_path, FRAMED.replace("PAGE", page))
    page_width, is_too_wide, scrolled_tables = json.loads(title.replace("&quot;", '"'))
    assert width - 20 <= page_width <= width  # the width minus a scroll bar
    assert not is_too_wide
    assert scrolled_tables == [] if width == 1280 else len(scrolled_tables) > 3
    assert console == []


def first_screen(page):
    return re.search(r'<section class="first".*?</section>', page.read_text(), re.DOTALL)[0]


def plain_text(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_first_screen_has_the_recommended_model_its_figures_and_six_answers(experiment):
    first = first_screen(experiment / "made" / "index.html")
    text = plain_text(first)
    run = run_folder(experiment, "made", "ResNet50", 0)
    test = Predictions.from_npz(run.predictions("ft", "test"))
    assert text.startswith("recommended, chosen on val ResNet50 ft")
    assert f"test top-1 {100 * test.correct.mean():.1f} % 95 % interval" in text
    assert "latency, one image 6.0 ms compiled call; 2 CPU threads" in text
    assert "size 4.00 M parameters, 17.0 MB as model.keras" in text
    assert "bundle not exported" in text
    assert first.count("<svg") == 1
    assert first.count("<img") == 12  # six images, each beside its map
    marks = ["✓" if right else "✗" for right in test.correct[:6]]  # the explained images are the first of test
    assert re.findall("[✓✗]", text) == marks
    for row in range(6):
        assert f"class{test.predicted[row]} {test.confidence[row]:.0%}".replace("%", " %") in text


def test_the_first_screen_links_to_the_bundle_only_where_it_is(tmp_path):
    run = make_run(tmp_path, "MobileNet", images=40)
    bundle = tmp_path / "exports" / "a name with #1"
    bundle.mkdir(parents=True)
    write_text(run.export("ft"), json.dumps({"bundle": os.path.relpath(bundle, run.root)}))
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = tmp_path / "made" / "index.html"
    assert '<a href="../exports/a%20name%20with%20%231/">a name with #1</a>' in first_screen(page)
    bundle.rmdir()
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    assert '<a href="../' not in first_screen(page)


def test_columns_without_a_value_are_hidden(tmp_path):
    run = make_run(tmp_path, "MobileNet", images=40)
    tree = json.loads(run.explanation_checks.read_text())
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = tmp_path / "made" / "index.html"
    for heading in ("mass in the box, %", "points per ms"):
        assert heading in page.read_text()
    write_text(run.explanation_checks, json.dumps({**tree, "box_share": [None] * len(tree["box_share"])}))
    run.latency.unlink()
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    for heading in ("mass in the box, %", "points per ms"):
        assert heading not in page.read_text()
    assert "The data has no boxes around objects" in page.read_text()


def test_only_the_best_runs_have_pictures_so_the_page_stays_small(tmp_path):
    for seed in range(PICTURED + 1):
        make_run(tmp_path, "MobileNet", seed=seed, skills=(("tl", 1.5),), images=40)
    folder = experiment_folder(tmp_path, "made")
    write_report_so_far(folder, finished_runs(folder), NOTHING_FOLLOWS, Log(), ReportMemory())  # saves no figures
    page = folder.page.read_text()
    errors = re.search(r'<section id="errors">.*?</section>', page, re.DOTALL)[0]
    assert errors.count("<h3>") == PICTURED
    maps = re.findall(r'<table class="data maps">.*?</table>', page, re.DOTALL)
    assert {table.count("<tr>") for table in maps} == {1 + PICTURED}
    assert len(page) < 3e6


def method(name, gain, *, beats=True, head=True):
    value = Interval(gain, gain - 0.01, gain + 0.01)
    return MethodVerdict(name, value, value, value, None, None, None, None, value, value, beats, head, True)


@pytest.mark.parametrize(
    ("verdicts", "name"),
    [
        ([method("smoothgrad", 0.9), method("gradcam", 0.1)], "gradcam"),
        ([method("smoothgrad", 0.2), method("saliency", 0.1), method("gradcam", 0.3, beats=False)], "smoothgrad"),
        ([method("smoothgrad", 0.2, head=False), method("gradcam", 0.3, beats=False)], "gradcam"),
        ([], "gradcam"),
    ],
)
def test_grad_cam_is_shown_unless_it_fails_a_check_that_another_method_passes(verdicts, name):
    assert shown_method(verdicts) == name


def test_explanation_methods_have_their_common_names(widest):
    for title in ("Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++"):
        assert f'<td class="left">{title}</td>' in widest
        assert f'<th class="left">{title}</th>' in widest
    assert not re.search("gradcam|smoothgrad", widest)


def test_the_page_is_small_and_has_no_outside_addresses(experiment):
    page = (experiment / "made" / "index.html").read_text()
    assert len(page) < 3e6
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"'(]?\s*(?:https?:)?//", page)
    assert len(np.unique(re.findall(r'<section id="(\w+)"', page))) == 11
