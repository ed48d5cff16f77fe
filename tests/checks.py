"""Checks that several tests share: the modules a command loads, and the head comment of an experiment."""

import subprocess
import sys


def python(code):
    """Run code in a fresh process, which must exit with code 0, and return its output."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def loaded_by(arguments, heavy=("tensorflow", "keras")):
    """Run a command in a fresh process; return its exit code, its output and the `heavy` modules it loaded."""
    code = (
        f"from keras_bench.cli.main import main; code = main({list(map(str, arguments))!r})\n"
        f"import sys; print(); print(code, *[name for name in {heavy!r} if name in sys.modules])"
    )
    output, _, last_line = python(code).rstrip("\n").rpartition("\n")
    exit_code, *loaded = last_line.split()
    return int(exit_code), output, loaded


def check_head_comment(path, folder):
    """Check that an experiment or sweep begins with its path, claim, source, command, cost and result."""
    lines = path.read_text().splitlines()
    assert lines[0] == f"# {folder}/{path.name}"
    for field in ("# Claim:", "# Source:", "# Run:", "# Cost:", "# Result:"):
        assert any(line.startswith(field) for line in lines), field
