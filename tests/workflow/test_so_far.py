"""A suite's comparison after each model: what the page shows, what follows, and that it is completed afterwards."""

import re
from dataclasses import replace

import pytest

from keras_bench.cli.main import main
from keras_bench.config import Config, load_experiment, to_yaml
from keras_bench.console import Log
from keras_bench.files import write_json, write_text
from keras_bench.reading import read_json
from keras_bench.report import phase_views
from keras_bench.report.memory import ReportMemory
from keras_bench.report.outlook import Absence, Outlook, ReportPart, following_lines, names_in_words
from keras_bench.runs.job import Request, resolve
from keras_bench.workflow import suite
from keras_bench.workflow.compare import compare_runs, compare_so_far, damaged_comparison, is_current
from keras_bench.workflow.parts import outlook_of
from tests.damage import DAMAGE
from tests.made import make_run

MODELS = ("MobileNet", "VGG16", "ResNet50")
IMAGES = 40  # test images of each
EXPERIMENT = """\
dataset: {source: digits}
models:
  MobileNet: {}
  VGG16: {}
  ResNet50: {}
"""


@pytest.fixture
def jobs(tmp_path):
    """The jobs of a suite of three models, none of them run yet."""
    write_text(tmp_path / "made.yaml", EXPERIMENT)
    experiment = load_experiment(str(tmp_path / "made.yaml"))
    request = Request(experiment=str(tmp_path / "made.yaml"), model="MobileNet", out=tmp_path / "runs")
    return [resolve(replace(request, model=name), experiment) for name in MODELS]


def make(job, *, absent=()):
    """Write the finished run of a job without some of its parts."""
    run = make_run(job.folder.root.parents[2], job.backbone.name, images=IMAGES)
    parts = {"latency": run.latency, "explanations": run.explanation_checks}
    for name in absent:
        parts[name].unlink()
    return run


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.read_text()).split())


def test_after_the_first_model_the_page_shows_it_and_names_what_follows(jobs, capsys):
    folder = jobs[0].experiment_folder
    make(jobs[0], absent=["latency"])
    compare_so_far(folder, outlook_of(jobs, 1), Log(), ReportMemory())
    out = capsys.readouterr().out
    assert "one run so far, by val top-1:\n  1. MobileNet (ft): val " in out
    assert "VGG16 and ResNet50 follow.\nLatency follows.\n" in out
    assert out.endswith(f"report:  {folder.page}\n")
    page = text_of(folder.page)
    assert "Not complete yet. VGG16 and ResNet50 follow. Latency follows." in page
    assert "MobileNet: latency follows" in page
    assert "MobileNet: not exported." in page  # its process has ended, so its bundle does not follow
    summary = folder.summary.read_text()
    assert "follows" in next(line for line in summary.splitlines() if "ft *" in line)
    assert folder.results.is_file()
    assert not folder.figures.exists()


def test_parts_of_a_run_that_is_not_due_yet_follow_too(jobs):
    for job in jobs[:2]:
        make(job, absent=["latency", "explanations"])
    compare_so_far(jobs[0].experiment_folder, outlook_of(jobs, 1), Log(), ReportMemory())
    page = text_of(jobs[0].experiment_folder.page)
    assert "ResNet50 follows. Latency follows. Explanations of VGG16 follow. ONNX bundle of VGG16 follows." in page
    assert "VGG16: explanations follow." in page
    assert "VGG16: the ONNX bundle follows." in page
    assert "MobileNet: explanations are missing; repeating the run command adds them." in page


def test_what_is_turned_off_does_not_follow(jobs):
    off = {name: {"enabled": False} for name in ("latency", "explain", "export")}
    config = Config(name="made", **off)
    run = make(jobs[0], absent=["latency", "explanations"])
    write_text(run.config, to_yaml(config))
    outlook = outlook_of([replace(job, config=config) for job in jobs], 1)
    compare_so_far(jobs[0].experiment_folder, outlook, Log(), ReportMemory())
    page = text_of(jobs[0].experiment_folder.page)
    assert "MobileNet: latency was not measured: turned off (latency.enabled)" in page
    assert "MobileNet: explanations were not computed: turned off ( explain.enabled )." in page
    assert "MobileNet: not exported: turned off ( export.enabled or --no-export )." in page
    assert "Not complete yet. VGG16 and ResNet50 follow. The suite" in page


def test_a_model_that_failed_does_not_follow(jobs):
    make(jobs[0])
    assert outlook_of(jobs, 2).models == ("ResNet50",)
    assert outlook_of(jobs, 3).models == ()


def test_the_page_stays_intact_and_is_made_again_when_parts_arrive(jobs, capsys):
    folder = jobs[0].experiment_folder
    run = make(jobs[0], absent=["latency"])
    latencies = make_run(folder.root.parent / "elsewhere", "MobileNet", images=IMAGES).latency.read_text()
    outlook = outlook_of(jobs, 1)
    compare_so_far(folder, outlook, Log(), ReportMemory())
    assert is_current(folder, outlook)
    assert not is_current(folder)  # the page says that something follows
    first = folder.page.stat().st_mtime_ns
    compare_so_far(folder, outlook, Log(), ReportMemory())
    assert folder.page.stat().st_mtime_ns == first
    make(jobs[1], absent=["latency"])
    write_text(run.latency, latencies)
    compare_so_far(folder, outlook_of(jobs, 2), Log(), ReportMemory())
    page = text_of(folder.page)
    assert "ResNet50 follows. Latency of VGG16 follows." in page
    assert damaged_comparison(folder) == []
    capsys.readouterr()
    compare_runs(folder, Log())
    assert "damaged" not in capsys.readouterr().out
    assert "follow" not in re.sub(r"follows? ", "", folder.summary.read_text())
    assert "Not complete yet" not in text_of(folder.page)
    assert "VGG16: latency was not measured; `keras-bench report made --measure` adds it" in text_of(folder.page)
    assert (folder.figures / "coverage.png").is_file()
    assert run.model_card.is_file()
    assert is_current(folder)


def test_a_bundle_that_arrives_later_is_shown(jobs):
    folder = jobs[0].experiment_folder
    run = make(jobs[0])
    compare_runs(folder, Log())
    assert is_current(folder)
    write_json(run.export("ft"), {"bundle": "x"})
    assert not is_current(folder)


@pytest.mark.parametrize("change", [*DAMAGE.values(), lambda path: path.unlink()], ids=[*DAMAGE, "missing"])
def test_a_damaged_page_of_a_suite_is_made_again(jobs, change):
    folder, outlook = jobs[0].experiment_folder, outlook_of(jobs, 1)
    make(jobs[0])
    compare_so_far(folder, outlook, Log(), ReportMemory())
    content = folder.results.read_text()
    change(folder.results)
    assert damaged_comparison(folder) == [folder.results]
    compare_so_far(folder, outlook, Log(), ReportMemory())
    assert folder.results.read_text() == content


def test_a_finished_suite_is_left_as_it_is(jobs, capsys):
    folder = jobs[0].experiment_folder
    for job in jobs:
        run = make(job)
        write_json(run.export("ft"), {"bundle": "x"})
    compare_runs(folder, Log())
    before = read_json(folder.comparison)
    capsys.readouterr()
    for number in (1, 3):
        compare_so_far(folder, outlook_of(jobs, number), Log(), ReportMemory())
    assert capsys.readouterr().out == ""
    assert read_json(folder.comparison) == before


@pytest.mark.slow
def test_statistics_of_unchanged_phases_are_computed_once(jobs, monkeypatch):
    folder, memory, computed = jobs[0].experiment_folder, ReportMemory(), []
    original = phase_views._phase_view

    def count(run, phase, *rest):
        computed.append((run.model_name, phase))
        return original(run, phase, *rest)

    monkeypatch.setattr(phase_views, "_phase_view", count)
    for number, job in enumerate(jobs[:2], start=1):
        make(job)
        compare_so_far(folder, outlook_of(jobs, number), Log(), memory)
    assert computed == [("MobileNet", "tl"), ("MobileNet", "ft"), ("VGG16", "tl"), ("VGG16", "ft")]
    make_run(folder.root.parent, "MobileNet", skills=(("tl", 1.0), ("ft", 3.0)), images=IMAGES)  # trained again
    compare_runs(folder, Log(), memory)
    assert computed[4:] == [("MobileNet", "tl"), ("MobileNet", "ft")]
    with_memory = folder.results.read_text()
    folder.comparison.unlink()
    compare_runs(folder, Log())
    assert folder.results.read_text() == with_memory


def test_an_interrupted_suite_has_a_page_with_the_models_that_are_there(jobs, monkeypatch, capsys):
    """Interrupted during the second model, as by Ctrl-C."""
    folder = jobs[0].experiment_folder

    def run_alone(job, dry_run):
        if job.backbone.name == "VGG16":
            raise KeyboardInterrupt
        make(job, absent=["latency"])
        return 0

    monkeypatch.setattr(suite, "run_alone", run_alone)
    for name in ("require_data", "require_folders"):
        monkeypatch.setattr(suite, name, lambda job: None)
    monkeypatch.setattr(suite, "find_all_weights", lambda jobs, log: None)
    request = replace(jobs[0].request, model="MobileNet")
    with pytest.raises(KeyboardInterrupt):
        suite.run_suite(request, None, False, Log())
    page = text_of(folder.page)
    assert "Best: MobileNet (ft), chosen on val" in page
    assert "Not complete yet. VGG16 and ResNet50 follow. Latency follows." in page
    capsys.readouterr()
    assert main(["report", str(folder.root)]) == 0  # which makes it complete for the runs that are there
    assert "damaged" not in capsys.readouterr().out
    assert "Not complete yet" not in text_of(folder.page)


def test_sentences():
    absent = {"A": {ReportPart.LATENCY: Absence.FOLLOWS}, "B": {}}
    assert following_lines(Outlook(("C",)), absent) == ["C follows.", "Latency of A follows."]
    assert names_in_words("ABCDEFGH") == "A, B, C, D, E, F and 2 more"
    assert names_in_words("A") == "A"
