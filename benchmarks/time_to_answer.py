"""Seconds from a command to its first result, to the comparison and to its end, in turn with an earlier commit.

    python -m benchmarks.time_to_answer --data tiny-imagenet-mini.zip [--before 6d73af8] [--rounds 3]
    python -m benchmarks.time_to_answer --studies demo --before 6d73af8

Each command starts with an empty cache and writes to an empty folder. Its networks start from random weights, since
time does not depend on their values. `make demo` is what it is in either commit, so there the two do not train the
same. Rows go to benchmarks/results/time_to_answer.csv.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.results import append
from keras_bench.environment import describe_environment

ROOT = Path(__file__).parents[1]
COLUMNS = ("study", "commit", "round", "trained", "result", "table", "end", "parts", "cpu", "cores", "time")
MOMENTS = ("trained", "result", "table", "end")
# Lines of a command's output. Earlier versions show results first in the table, in the columns "test top-1" and others.
EPOCHS, RESULT, TABLE = re.compile(r"\w+: \d+ epochs?\b.* the best is"), re.compile(r"\btest top-1\b"), "report: "


@dataclass
class Answer:
    """Moments of one study, in seconds from the start of its first command.

    Attributes:
        trained: the last phase of the first model that shows a result has ended.
        result: its figures on test are shown.
        table: the comparison of all models is written.
        end: the last command has ended.
        parts: seconds by part of the work, over all runs; the rest is in "other" and in the suite itself.
    """

    trained: float = 0.0
    result: float = 0.0
    table: float = 0.0
    end: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def main() -> None:
    arguments = _arguments()
    answers: dict[tuple[str, str], list[Answer]] = {}
    with checkout(arguments.before) as earlier:
        checkouts = [earlier, ROOT] if earlier else [ROOT]
        for number in range(1, arguments.rounds + 1):
            for study in arguments.studies:
                for folder in checkouts:
                    commit = _commit(folder)
                    answer = measure(folder, STUDIES[study], arguments.data)
                    answers.setdefault((study, commit), []).append(answer)
                    _keep(study, commit, number, answer)
    print("medians (least to most) in seconds:")
    for (study, commit), rounds in answers.items():
        print(f"{study} at {commit}: {'; '.join(_spread(name, rounds) for name in MOMENTS)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a zip in Tiny ImageNet's layout, for all studies but demo")
    parser.add_argument("--before", help="a commit to measure in turn with the files of this checkout")
    parser.add_argument("--studies", nargs="+", choices=tuple(STUDIES), default=list(STUDIES))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.data is None and set(arguments.studies) != {"demo"}:
        parser.error("--data: expected a zip in Tiny ImageNet's layout; only --studies demo needs none")
    return arguments


@contextmanager
def checkout(commit: str | None) -> Iterator[Path | None]:
    """Give a folder with the files of a commit; None for none."""
    if commit is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "earlier"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", folder, commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", folder], check=True)


def measure(folder: Path, commands: Sequence[Sequence[str]], data: Path | None) -> Answer:
    """Run a study's commands with the code in a folder, with an empty cache, and return its moments."""
    answer, started = Answer(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "runs"
        environment = {**os.environ, "PYTHONPATH": str(folder), "KERAS_BENCH_CACHE": str(Path(scratch) / "cache")}
        for words in commands:
            command = [sys.executable, "-m", "keras_bench", *words, "--out", str(out)]
            command += ["--data", str(data.absolute())] if data and "demo" not in " ".join(words) else []
            with subprocess.Popen(
                command, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                assert process.stdout is not None
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    _watch(line, time.monotonic() - started, answer)
            if process.returncode:
                raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{''.join(lines[-20:])}")
        answer.end = time.monotonic() - started
        answer.parts = _parts(out)
    return answer


def _watch(line: str, now: float, answer: Answer) -> None:
    """Note the moments that a line of output marks."""
    if not answer.result:
        if EPOCHS.match(line):
            answer.trained = now
        elif RESULT.search(line):
            answer.result = now
    if line.startswith(TABLE):
        answer.table = now  # a suite writes it after each model, and the last has all of them


def _parts(out: Path) -> dict[str, float]:
    """Return the seconds of each part of the work, summed over all runs."""
    parts: dict[str, float] = {}
    for path in out.rglob("timing.json"):
        for name, value in json.loads(path.read_text()).items():
            if isinstance(value, int | float) and name != "seconds":
                parts[name] = round(parts.get(name, 0.0) + value, 1)
    return parts


def _keep(study: str, commit: str, number: int, answer: Answer) -> None:
    """Print one measurement and append it to the results."""
    moments = [round(getattr(answer, name), 1) for name in MOMENTS]
    shown = ", ".join(f"{name} {value:.1f} s" for name, value in zip(MOMENTS, moments, strict=True))
    print(f"{study} at {commit}, round {number}: {shown}; {answer.parts}", flush=True)
    environment = describe_environment([])
    provenance = (environment["cpu"], environment["cores"], environment["time"])
    append("time_to_answer", COLUMNS, (study, commit, number, *moments, json.dumps(answer.parts), *provenance))


def _spread(name: str, rounds: list[Answer]) -> str:
    values = sorted(getattr(answer, name) for answer in rounds)
    return f"{name} {statistics.median(values):.0f} ({values[0]:.0f} to {values[-1]:.0f})"


def _commit(folder: Path) -> str:
    """Return the short name of a checkout's commit, with a plus sign if files have been changed since."""
    name = subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(["git", "-C", folder, "diff", "--quiet", "HEAD"]).returncode
    return name.stdout.strip() + ("+" if changed else "")


def _words(command: str, models: Sequence[str], settings: Sequence[str]) -> list[str]:
    words = [command, "--experiment", "tiny-imagenet", "--phase", "ft", "--weights", "none"]
    words += [word for model in models for word in ("--model", model)]
    return words + [word for setting in settings for word in ("--set", setting)]


STUDIES = {
    "run": [
        _words(
            "run", ["MobileNet"], ["model.alpha=0.75", "dataset.image_size=128", "tl.epochs=5", "ft.epochs=1"]
        )
    ],
    "demo": [["suite", "--experiment", "demo-pretrain"], ["suite", "--experiment", "demo"]],
    "suite": [
        _words(
            "suite",
            ["MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet18"],
            ["dataset.image_size=64", "tl.epochs=2", "ft.epochs=1"],
        )
    ],
}  # fmt: skip

if __name__ == "__main__":
    main()
