"""cost.json is written once per model, and again when the model changes."""

import json

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.cost.cost_file import cost_finished, read_cost, write_cost
from keras_bench.cost.count import multiply_adds
from keras_bench.files import write_json
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.runs.job import Request, resolve


def test_cost_of_a_finished_run(tmp_path):
    settings = ("model.alpha=0.25", "dataset.image_size=32")
    job = resolve(Request(experiment="digits", model="MobileNet", out=tmp_path, settings=settings))
    assert not cost_finished(job)
    assert read_cost(job.folder) is None
    model = build_model(ModelSpec(BACKBONES["MobileNet"], 32, 7, ModelConfig(alpha=0.25)))
    job.folder.phase("scratch").mkdir(parents=True)
    model.save(job.folder.model("scratch"))
    write_json(job.folder.run, {"final_phase": "scratch"})
    write_cost(job)
    assert cost_finished(job)
    assert read_cost(job.folder).multiply_adds == multiply_adds(model)
    assert json.loads(job.folder.cost.read_text())["phase"] == "scratch"
    written = job.folder.cost.stat().st_mtime_ns
    write_cost(job)
    assert job.folder.cost.stat().st_mtime_ns == written
    job.folder.model("scratch").write_bytes(b"another model")
    assert not cost_finished(job)
