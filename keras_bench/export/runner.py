"""Writes predict.py of a bundle: the modules that run a bundle, one after the other in a single file."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from keras_bench.bundle.sums import PREDICT

# Each imports only modules of this package that come before it. The last one has the docstring and the command line.
_MODULES = (
    "keras_bench.images",
    "keras_bench.printable",
    "keras_bench.bundle.sums",
    "keras_bench.bundle.onnx_file",
    "keras_bench.bundle.model",
    "keras_bench.bundle.classify",
    "keras_bench.bundle.command",
)


def write_runner(folder: Path) -> None:
    """Write predict.py, which needs no other file of this package.

    Raises:
        ValueError: two modules define the same name, or one imports something of this package that predict.py lacks.
    """
    trees = {module: ast.parse(_source(module)) for module in _MODULES}
    _refuse_shared_names(trees)
    docstring = ast.get_docstring(trees[_MODULES[-1]], clean=False)
    parts = [f'"""{docstring}"""\n\nfrom __future__ import annotations\n']
    parts += [_without_header(module, tree) for module, tree in trees.items()]
    (folder / PREDICT).write_text("\n\n".join(parts), encoding="utf-8")


def _without_header(module: str, tree: ast.Module) -> str:
    """Return a module's source without its docstring and its imports of modules that come before it."""
    embedded = ("__future__", *_MODULES[: _MODULES.index(module)])
    dropped = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _is_replaced(node, embedded)]
    for node in ast.walk(tree):
        if node not in dropped and _is_of_this_package(node):
            raise ValueError(f"{module}: predict.py has no replacement for its line `{ast.unparse(node)}`")
    lines = _source(module).splitlines(keepends=True)
    for node in reversed([tree.body[0], *dropped]):
        del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines).strip("\n") + "\n"


def _is_replaced(node: ast.ImportFrom, embedded: tuple[str, ...]) -> bool:
    """Return whether an import only makes names available that predict.py already defines."""
    return node.module in embedded and not any(alias.asname for alias in node.names)


def _is_of_this_package(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or str(node.module).partition(".")[0] == "keras_bench"
    return isinstance(node, ast.Import) and any(name.name.partition(".")[0] == "keras_bench" for name in node.names)


def _refuse_shared_names(trees: dict[str, ast.Module]) -> None:
    """Refuse a name that two modules define at their top level: in one file, the second would replace the first."""
    module_of: dict[str, str] = {}
    for module, tree in trees.items():
        for name in set(_defined_names(tree)):
            if name in module_of:
                raise ValueError(
                    f"{module_of[name]} and {module} both define {name}, which predict.py cannot tell apart"
                )
            module_of[name] = module


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _source(module: str) -> str:
    """Return a module's source text."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    return Path(str(spec.origin)).read_text(encoding="utf-8")
