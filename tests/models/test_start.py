"""Keras starts with the settings that results are defined for, in a fresh process, whatever the user's own are."""

import builtins
import json

import pytest

from keras_bench.errors import RunError
from keras_bench.models.start import import_keras
from tests.checks import python

START = """
from rich.console import Console
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.models.start import start_tensorflow
try:
    start_tensorflow(Log(Console(soft_wrap=True)))
    import keras
    print(keras.backend.backend(), keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon())
except UserError as error:
    print(error)
"""
REQUIRED = "tensorflow channels_last float32 1e-07"


def write_settings(tmp_path, text):
    path = tmp_path / "keras-home" / "keras.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "backend", ["jax", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch", "nonsense"))]
)
def test_another_backend_in_the_environment_is_ignored_with_a_line(monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    first, *_, last = python(START).splitlines()
    assert first == f"warning: KERAS_BACKEND '{backend}' is ignored: keras-bench needs tensorflow"
    assert last == REQUIRED


def test_other_settings_in_keras_json_are_ignored_with_a_line_each(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}
    path = write_settings(tmp_path, json.dumps({**settings, "more": 1}))
    lines = python(START).splitlines()
    needs = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32", "epsilon": 1e-07}
    for line, (key, value) in zip(lines, settings.items(), strict=False):
        assert line == f"warning: {path}: {key} {value!r} is ignored: keras-bench needs {needs[key]}"
    assert lines[-1] == REQUIRED


@pytest.mark.parametrize(
    "text",
    ['{"floatx": "half"}', *(pytest.param(text, marks=pytest.mark.slow) for text in ("[1]", '{"epsilon": "small"}'))],
)
def test_settings_that_keras_cannot_read_are_an_error_of_one_line(tmp_path, text):
    path = write_settings(tmp_path, text)
    (line,) = python(START).splitlines()
    assert line.startswith(f"{path}: ")
    assert line.endswith("; correct that file or remove it")


def test_usual_settings_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    write_settings(tmp_path, '{"backend": "tensorflow", "floatx": "float32"}')
    assert "ignored" not in python(START)


@pytest.mark.parametrize("text", [None, "not JSON"])
def test_an_error_of_keras_itself_does_not_blame_settings_that_it_did_not_read(tmp_path, monkeypatch, text):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras-home"))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    if text is not None:
        write_settings(tmp_path, text)
    real = builtins.__import__

    def broken(name, *arguments):
        if name == "keras":
            raise AttributeError("module 'numpy' has no attribute 'bool'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(RunError, match="^Keras cannot be imported: module 'numpy' has no attribute 'bool'$"):
        import_keras()
