"""Every way to use a bundle, and the one line of those that refuse it."""

from keras_bench.cli.main import main

# Runs a script with the standard library and the three packages that a bundle needs, and no others.
ALONE = """
import importlib.abc, runpy, sys

class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {"numpy", "PIL", "onnxruntime", "defusedxml", "olefile"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Only())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ways(bundle, photo, own_main):
    """Every way to use a bundle, by name."""
    return {
        "verify": lambda: main(["verify", str(bundle)]),
        "predict": lambda: main(["predict", str(bundle), photo]),
        "predict.py": lambda: own_main([photo], bundle),
        "predict --int8": lambda: main(["predict", str(bundle), photo, "--int8"]),
        "predict.py --int8": lambda: own_main([photo, "--int8"], bundle),
        "predict.py --verify": lambda: own_main(["--verify"], bundle),
    }


def refusal(capsys, way, code):
    """Run a way that must fail, and return its only line."""
    assert way() == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert "%" not in captured.out  # no prediction
    return line
