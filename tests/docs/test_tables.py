"""The Python of docs/run-folder.md works as printed, in a run folder of its names."""

import contextlib
import io
import os

import matplotlib as mpl
import pandas as pd
import pytest

from keras_bench.cli.main import main
from tests.docs.pages import ROOT, blocks
from tests.made import make_run

PAGE = ROOT / "docs" / "run-folder.md"


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A folder with runs/demo, two seeds of MobileNetV3Small and one of MobileNet, and their comparison."""
    for model, seed in (("MobileNetV3Small", 0), ("MobileNetV3Small", 1), ("MobileNet", 0)):
        make_run(tmp_path / "runs", model, seed)
    os.rename(tmp_path / "runs" / "made", tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "demo", "--out", "runs"]) == 0
    return tmp_path


def test_the_python_of_the_page_runs(demo):
    codes = blocks(PAGE.read_text(encoding="utf-8"), "python")
    assert len(codes) == 2
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed), mpl.rc_context({"backend": "agg"}):
        for code in codes:
            exec(code, names)
    assert len(printed.getvalue().splitlines()) > 5
    results = names["results"]
    groups = results.groupby(["model", "phase"])["test_top1"].mean()
    assert groups["MobileNetV3Small", "ft"] == pytest.approx(
        results.loc[(results["model"] == "MobileNetV3Small") & (results["phase"] == "ft"), "test_top1"].sum() / 2
    )
    assert groups.index.tolist() == [(m, p) for m in ("MobileNet", "MobileNetV3Small") for p in ("ft", "tl")]
    assert results.dtypes["seed"].kind == "i"
    assert pd.api.types.is_bool_dtype(results["final"])
    assert names["history"]["epoch"].tolist() == [1, 2, 3, 4]
