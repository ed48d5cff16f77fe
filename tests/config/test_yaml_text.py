"""Hostile and damaged YAML, in every file of it that is read: one line, at once, without filling memory."""

import os
import time
import tracemalloc

import pytest

from keras_bench.config import load_experiment, load_run_config, parse_setting
from keras_bench.config.yaml_text import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_VALUES, YAMLTextError, parse_yaml
from keras_bench.errors import UserError
from keras_bench.report.study_files import read_study
from keras_bench.sweep.file import load_sweep

READERS = {
    "experiment": lambda path: load_experiment(str(path)),
    "sweep": lambda path: load_sweep(str(path)),
    "run": load_run_config,
    "published": lambda path: read_study(path, {}),
}
SECONDS = 2.0  # of the processor, for all but a text with as many values as are allowed
LIMIT_SECONDS = 30.0  # for such a text, which takes 4 s here
MEMORY = 96 << 20  # bytes

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CASES = {
    "brackets": (b"a: " + b"[" * 2000 + b"]" * 2000, r"too deep: expected at most 16 levels"),
    "open brackets": (b"[" * 100_000, r"too deep: expected at most 16 levels"),
    "braces": (b"{a: " * 2000, r"too deep: expected at most 16 levels"),
    "indentation": ("".join(f"{' ' * i}a:\n" for i in range(500)).encode(), r"too deep: expected at most 16 levels"),
    "billion laughs": (LAUGHS.encode(), r"too large: expected at most 100,000 values"),
    "billion merges": (MERGES.encode(), r"too large: expected at most 100,000 values"),
    "many aliases": (b"a: &a 1\nb: [" + b"*a, " * 101 + b"]", r"too large: .* and 100 aliases"),
    "many values": (b"a: [" + b"1, " * 110_000 + b"]", r"too large: expected at most 100,000 values"),
    "large": (b"# " + b"x" * MAX_BYTES, r"too large: expected at most 2 MiB of YAML"),
    "endless alias": (b"a: &a [*a]", r"not plain YAML: \*a stands inside the value that it repeats"),
    "unknown alias": (b"a: *b", r"not valid YAML .*undefined alias"),
    "python": (b"a: !!python/object/apply:os.system ['true']", r"not plain YAML: the tag 'tag:yaml\.org.*python"),
    "own tag": (b"a: !mine 3", r"not plain YAML: the tag '!mine' is not accepted"),
    "set": (b"a: !!set {b, c}", r"not plain YAML: the tag 'tag:yaml\.org,2002:set' is not accepted"),
    "bad number": (b"a: !!int three", r"not valid YAML \(.*three"),
    "long number": (b"a: " + b"9" * 5000, r"not valid YAML \(.*4300 digits"),
    "duplicate": (b"tl: {epochs: 1}\ntl: {epochs: 2}", r"not valid YAML .*duplicate key"),
    "list as key": (b"? [1, 2]\n: 3\n? {a: 1}\n: 4", r"unknown key|not valid YAML"),
    "not UTF-8": (b"title: caf\xe9", r"not valid YAML .*utf-8"),
    "UTF-16": ("title: café".encode("utf-16"), r"not valid YAML .*utf-8"),
    "NUL": (b"title: a\0b", r"not valid YAML .*not allowed"),
    "tab": (b"tl:\n\tepochs: 3", r"not valid YAML"),
    "list": (b"- tl\n- ft", r"expected keys and values, received list"),
    "text": (b"only text", r"expected keys and values, received str"),
    "two documents": (b"a: 1\n---\nb: 2", r"not valid YAML"),
    "random": (bytes(range(256)) * 8, r"not valid YAML"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("content", "message"), CASES.values(), ids=CASES)
def test_a_hostile_file_is_refused_in_one_line_at_once(tmp_path, reader, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UserError, match=rf"^{path}: (\S+: )?{message}") as refusal:
        reader(path)
    assert time.process_time() - started < (LIMIT_SECONDS if content == CASES["many values"][0] else SECONDS)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 500 + len(str(path))


@pytest.mark.parametrize("case", ["brackets", "billion laughs", "billion merges", "many values"])
def test_a_hostile_text_takes_little_memory(case):
    tracemalloc.start()
    with pytest.raises(YAMLTextError):
        parse_yaml(CASES[case][0].decode())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_not_a_file_is_refused(tmp_path, reader):
    folder, pipe, huge = tmp_path / "folder.yaml", tmp_path / "pipe.yaml", tmp_path / "huge.yaml"
    folder.mkdir()
    os.mkfifo(pipe)
    with huge.open("wb") as stream:
        stream.truncate(100 << 20)
    for path in (folder, pipe, tmp_path / "none.yaml", tmp_path / f"{'n' * 300}.yaml"):
        with pytest.raises(UserError, match=r"received a folder|received no file|: no file '|too long"):
            reader(path)
    with pytest.raises(UserError, match="too large: expected at most 2 MiB"):
        reader(huge)


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_lacks_what_it_must_have(tmp_path, content):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match="models: expected at least one model"):
        load_experiment(str(path))
    with pytest.raises(UserError, match="expected one of grid, points and search"):
        load_sweep(str(path))
    with pytest.raises(UserError, match=r"a\.yaml: name: expected .*, received nothing"):
        load_run_config(path)


@pytest.mark.parametrize(("content", "message"), CASES.values(), ids=CASES)
def test_a_hostile_setting_is_refused_in_one_line(content, message):
    text = "a: *b" if content[:1] == b"-" else content.decode("utf-8", "replace")
    if message.startswith(("expected keys", "unknown", "not valid YAML .*utf-8")):
        return  # a plain value here
    with pytest.raises(UserError, match=rf"^--set .*: the value is {message}") as refusal:
        parse_setting(f"tl.epochs={text}")
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


def test_limits_are_the_largest_that_are_read():
    assert parse_yaml("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
    assert len(parse_yaml("[" + "1, " * (MAX_VALUES - 1) + "]")) == MAX_VALUES - 1
    assert parse_yaml("[&a 1" + ", *a" * MAX_ALIASES + "]") == [1] * (MAX_ALIASES + 1)
    with pytest.raises(YAMLTextError):
        parse_yaml("[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1))
    with pytest.raises(YAMLTextError):
        parse_yaml("[" + "1, " * MAX_VALUES + "]")


def test_ordinary_aliases_and_merge_keys_are_read():
    text = "a: &a {epochs: 3}\nb: {<<: *a, views: 2}\nc: [*a, !!str 3]\n"
    assert parse_yaml(text) == {"a": {"epochs": 3}, "b": {"epochs": 3, "views": 2}, "c": [{"epochs": 3}, "3"]}


def test_a_list_of_all_imagenet_21k_classes_is_read_in_good_time(tmp_path):
    path = tmp_path / "a.yaml"
    names = [f"n{number:08d}" for number in range(21_841)]
    path.write_text(f"models: {{VGG16: {{}}}}\ndataset: {{classes: [{', '.join(names)}]}}\n")
    started = time.process_time()
    assert load_experiment(str(path)).resolve("VGG16").dataset.classes == tuple(names)
    assert time.process_time() - started < LIMIT_SECONDS / 2


def test_a_date_is_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("models: {VGG16: {}}\ntitle: 2024-01-01\ndataset: {classes: [2024-01-01, 2001-99-99]}\n")
    config = load_experiment(str(path)).resolve("VGG16")
    assert (config.title, config.dataset.classes) == ("2024-01-01", ("2024-01-01", "2001-99-99"))


def test_messages_quote_the_beginning_of_a_long_value(tmp_path):
    for text in (f"tl: {{epochs: {'x' * 5000}}}", f"tl: {{{'x' * 1000}: 1}}", f"{'x' * 1000}: 1"):
        path = tmp_path / "a.yaml"
        path.write_text(f"models: {{VGG16: {{}}}}\n{text}\n")
        with pytest.raises(UserError, match="x{50}") as refusal:
            load_experiment(str(path)).resolve("VGG16")
        assert len(str(refusal.value)) < 600 + len(str(path))
    with pytest.raises(UserError, match="x{50}") as refusal:
        load_experiment(write_models(tmp_path, f"{{{'x' * 1000}: {{}}}}"))
    assert len(str(refusal.value)) < 1200  # it lists the models that there are


def write_models(folder, models):
    path = folder / "models.yaml"
    path.write_text(f"models: {models}\n")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"grid: {{model.dropout: {list(range(200))}, model.l2: {list(range(200))}}}", "at most 10,000 points"),
        ("search: {method: random, trials: 1.0e+26}", r"trials: expected a whole number .*received 1e\+26"),
        ("search: {method: random, trials: 100000000000000000000000000}", r"trials: expected .*received 1000"),
        ("search: {method: random, trials: 3, seed: 4294967296}", r"seed: expected .*at most 4,294,967,295"),
        ("search: {method: random, trials: 3, space: {model.l2: {low: .nan, high: 1}}}", "finite numbers low < high"),
        ("search: {method: random, trials: 3, space: {model.l2: {low: 0, high: .inf}}}", "finite numbers low < high"),
        ("search: {method: random, trials: 3, space: {model.l2: {low: 2, high: 1}}}", "finite numbers low < high"),
        ("grid: {model.dropout: [0.1]}\nseeds: [4294967296]", r"seeds: expected .* 0 to 4294967295, received"),
        ("grid: {model.dropout: [0.1]}\nseeds: [1.0]", r"seeds: expected .* 0 to 4294967295, received \[1\.0\]"),
    ],
)
def test_a_sweeps_numbers_have_limits(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"experiment: digits\n{text}\n")
    with pytest.raises(UserError, match=message):
        load_sweep(str(path))
