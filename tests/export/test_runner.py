"""A bundle's predict.py: one file out of several modules."""

import ast

import pytest

from keras_bench.export import runner
from keras_bench.export.runner import write_runner


def names_in(tree):
    """Names that functions, classes and constants get at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def test_the_runner_defines_what_the_modules_define_and_imports_nothing_of_the_package(tmp_path):
    write_runner(tmp_path)
    text = (tmp_path / "predict.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert "import keras_bench" not in text
    assert "from keras_bench" not in text
    assert ast.get_docstring(tree).startswith("Classifies images with an exported bundle")
    modules = [ast.parse(runner._source(module)) for module in runner._MODULES]
    assert sorted(names_in(tree)) == sorted(name for module in modules for name in names_in(module))


def with_modules(monkeypatch, *sources):
    """Let the runner consist of these modules, keras_bench.m0 onwards; each gets a docstring."""
    texts = {f"keras_bench.m{number}": f'"""A module."""\n\n{source}' for number, source in enumerate(sources)}
    monkeypatch.setattr(runner, "_MODULES", tuple(texts))
    monkeypatch.setattr(runner, "_source", texts.__getitem__)


def test_imports_of_the_modules_before_are_left_out_also_in_several_lines(tmp_path, monkeypatch):
    with_modules(monkeypatch, "import os\n\nx = 1\n", "from keras_bench.m0 import (\n    x,\n)\n\ny = x\n")
    write_runner(tmp_path)
    assert (tmp_path / "predict.py").read_text() == (
        '"""A module."""\n\nfrom __future__ import annotations\n\n\nimport os\n\nx = 1\n\n\ny = x\n'
    )


@pytest.mark.parametrize(
    "line",
    [
        "from keras_bench.console import Log",
        "from keras_bench.m2 import later",
        "from keras_bench.m0 import x as y",
        "from keras_bench import console",
        "from . import console",
        "import keras_bench.m0",
        "def f():\n    from keras_bench.m0 import x",
        "if True:\n    import keras_bench",
    ],
)
def test_an_import_that_the_runner_cannot_replace_is_refused(tmp_path, monkeypatch, line):
    with_modules(monkeypatch, "x = 1\n", f"{line}\n", "later = 1\n")
    message = f"keras_bench.m1: predict.py has no replacement for its line `{line.splitlines()[-1].strip()}`"
    with pytest.raises(ValueError, match=message):
        write_runner(tmp_path)
    assert not (tmp_path / "predict.py").exists()


@pytest.mark.parametrize(
    "first", ["def _text(): ...", "class _text: ...", "_text = 1", "_text: int = 1", "a, _text = 1, 2"]
)
def test_a_name_that_two_modules_define_is_refused(tmp_path, monkeypatch, first):
    with_modules(monkeypatch, f"{first}\n", "def _text():\n    return 2\n")
    with pytest.raises(ValueError, match=r"keras_bench.m0 and keras_bench.m1 both define _text"):
        write_runner(tmp_path)
    assert not (tmp_path / "predict.py").exists()
