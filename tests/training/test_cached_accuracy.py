"""The benchmark of cached views: each seed draws its own views, and the standard error is right."""

import pytest

from benchmarks import cached_accuracy
from benchmarks.cached_accuracy import FRESH, Bench, draw_of, keep
from keras_bench.console import Log
from keras_bench.runs.data import load_data, open_data
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run


def test_each_seed_draws_views_of_its_own(monkeypatch, tmp_path):
    requested = []

    def record(run, phase, frozen):
        requested.append((run.job.request.seed, run.pipeline.seed, phase, frozen))

    monkeypatch.setattr(cached_accuracy, "compute_features", record)
    job = resolve(Request("digits", "MobileNet", "tl", out=tmp_path))
    data = load_data(job, *open_data(job, Log()), Log())
    bench = Bench(Run(job, data, Log()), "frozen", None)
    draws = [draw_of(bench, seed) for seed in (0, 5)]
    assert requested == [(0, 0, "tl", "frozen"), (5, 5, "tl", "frozen")]
    assert [(draw.run.job.request.seed, draw.run.pipeline.seed) for draw in draws] == [(0, 0), (5, 5)]


def test_the_error_is_that_of_the_mean_difference_within_a_seed(monkeypatch, capsys):
    rows = []
    monkeypatch.setattr(
        cached_accuracy, "append", lambda name, columns, row: rows.append(dict(zip(columns, row, strict=True)))
    )
    keep({FRESH: [0.80, 0.70, 0.90], 4: [0.81, 0.73, 0.89]}, ["epochs=15"])
    # Differences of 1, 3 and -1 points: mean 1, deviation 2, error 2 / √3.
    assert [row["views"] for row in rows] == ["fresh", 4]
    assert (rows[1]["difference_points"], rows[1]["standard_error"], rows[1]["seeds"]) == ("1.00", "1.15", 3)
    assert (rows[1]["top1"], rows[1]["views_drawn"], rows[1]["settings"]) == ("0.8100", "per seed", "epochs=15")
    assert "4 views: top-1 81.0%, +1.00 points, error 1.15" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--views", "17"], "expected 1 to 16"), (["--seeds", "1"], "a single seed has no standard error")],
)
def test_impossible_settings_are_refused_before_any_work(monkeypatch, capsys, words, message):
    monkeypatch.setattr("sys.argv", ["cached_accuracy", "--data", "nowhere.zip", *words])
    with pytest.raises(SystemExit, match="2"):
        cached_accuracy.main()
    assert message in capsys.readouterr().err
