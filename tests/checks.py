"""Checks that several tests make: what a command loads, and that an experiment's file says what it is."""

import subprocess
import sys


def python(code):
    """Run code in a fresh process, which must end well, and return its output."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def loaded_by(words, heavy=("tensorflow", "keras")):
    """Run a command in a fresh process; return its exit code, its output and those of the `heavy` modules it loads."""
    code = (
        f"from keras_bench.cli.main import main; code = main({list(map(str, words))!r})\n"
        f"import sys; print(); print(code, *[name for name in {heavy!r} if name in sys.modules])"
    )
    output, _, last = python(code).rstrip("\n").rpartition("\n")
    code, *loaded = last.split()
    return int(code), output, loaded


def check_head_comment(path, folder):
    """The first lines of an experiment or sweep name it and say what it is for."""
    head = path.read_text().splitlines()
    assert head[0] == f"# {folder}/{path.name}"
    for word in ("# Claim:", "# Source:", "# Run:", "# Cost:", "# Result:"):
        assert any(line.startswith(word) for line in head), word
