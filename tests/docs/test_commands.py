"""Every command that README and docs show: it parses, its keys exist, and a test runs it or a reason says why not."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from keras_bench.bundle.command import _parse_arguments as parse_predict

# The program's own parsers: that of all verbs, and that of the runner in a bundle, whose options `predict` has.
from keras_bench.cli.main import parse
from keras_bench.config import Config, load_experiment, parse_setting
from keras_bench.errors import UserError
from tests.docs.pages import PAGES, ROOT, Command, commands_of

COMMANDS = [command for page in PAGES for command in commands_of(page)]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SUITES = ("tiny-imagenet", "intel", "imagenet100", "cifar10", "folder")

# Which test runs what a command does, on data small enough for a test. Commands are named by how they begin; the
# longest beginning that fits counts.
RUN_BY: dict[str, tuple[str, ...]] = {
    "test_the_module_runs_the_command_of_the_readme": (
        "python -m keras_bench.run",
        "keras-bench run --model EfficientNetB0",
    ),
    "test_a_killed_run_is_finished_by_the_same_command": ("python -m keras_bench",),
    "test_a_dry_run_plans_and_writes_nothing": (
        "keras-bench run --experiment folder --data photos/ --set tl.epochs=5 --dry-run",
        "keras-bench run --experiment folder --data photos/ --dry-run",
        "keras-bench run --experiment folder --data table.csv",
    ),
    "test_the_models_table_and_the_configuration_are_printed_without_tensorflow": (
        "keras-bench run --experiment folder --model InceptionV3 --show-config",
        "keras-bench models",
    ),
    "test_a_suite_lends_weights_from_another_run_and_ends_with_the_table": (
        "keras-bench suite --experiment photos.yaml",
        "keras-bench suite --experiment digits",
    ),
    "test_folder": ("make folder-all", "keras-bench suite --experiment folder"),
    "test_tiny_imagenet": ("make tiny-imagenet-all",),
    "test_intel": ("make intel-all",),
    "test_imagenet100": ("make imagenet100-all",),
    "test_cifar10": ("make cifar10-all",),
    "test_help_lists_every_study": ("make help",),
    "test_a_sweep_of_real_runs": ("keras-bench sweep dropout",),
    "test_a_dry_run_lists_all_points_and_plans_one_unfinished_run": (
        "keras-bench sweep dropout --data tiny-imagenet-200.zip --dry-run",
    ),
    "test_the_command_line_is_parsed_and_mistakes_are_refused": ("keras-bench sweep experiments/sweeps/*.yaml",),
    "test_every_included_sweep_resolves": ("keras-bench sweep dropout-optimizer", "keras-bench sweep imbalance"),
    "test_the_report_needs_no_tensorflow": ("keras-bench report demo",),
    "test_all_is_measured_again_on_request": ("keras-bench report demo --measure",),
    "test_int8_is_calibrated_on_the_training_images_of_splits_csv": ("keras-bench export",),
    "test_verify_measures_the_accuracy_that_was_recorded": ("keras-bench verify",),
    "test_a_finished_bundle_is_rebuilt_neither_when_it_is_signed_nor_afterwards": (
        "keras-bench export runs/demo/MobileNetV3Small/seed0 --sign",
        "keras-bench verify exports/demo/MobileNetV3Small-ft-seed0 --key",
    ),
    "test_a_signed_bundle_is_verified_with_the_public_key": (
        "keras-bench export exports/demo/MobileNetV3Small-ft-seed0 --sign",
    ),
    "test_predict_gives_the_recorded_probabilities": ("keras-bench predict",),
    "test_paths_that_end_with_nul_may_hold_anything_else": (
        "keras-bench predict exports/demo/MobileNetV3Small-ft-seed0 -",
    ),
    "test_the_bundle_predicts_with_three_packages_and_its_own_folder": (
        "python exports/demo/MobileNetV3Small-ft-seed0/predict.py",
    ),
    "test_an_ensemble_is_the_mean_and_becomes_one_graph": ("keras-bench ensemble",),
    "test_clean_data_ends_with_zero_and_the_next_command": ("keras-bench audit",),
    "test_the_table_is_filtered_and_sorted": ("keras-bench models --filter",),
    "test_a_search_before_and_after_a_run": ("keras-bench lr-find",),
    "test_the_audit_reads_a_table_and_ends_with_the_next_command": ("keras-bench audit table.csv",),
    "test_the_cache_is_shown_limited_and_cleared": ("keras-bench cache",),
    "test_all_is_well": ("keras-bench doctor",),
}
# Why the others are run by none.
NOT_RUN: dict[str, tuple[str, ...]] = {
    "it makes the environment that the tests run in, so continuous integration runs it first": (
        "make setup",
        "make PYTHON=python3.12 setup",
    ),
    "they are the tests and the checks beside them": (
        "make test",
        "make test-all",
        "make coverage",
        "make lint",
        "make security",
        "make torture",
    ),
    "it takes minutes; test_a_suite_lends_weights_from_another_run_and_ends_with_the_table does the same with "
    "smaller suites": ("make demo",),
    "it asks the package index for every dependency": ("make lock",),
    "benchmarks take minutes to hours, and want a data set that is not in the repository": (
        "make bench",
        "python -m benchmarks.cached_accuracy",
        "python -m benchmarks.compare_latency",
        "python -m benchmarks.compare_passes",
        "python -m benchmarks.compare_training",
        "python -m benchmarks.convert_backbones",
        "python -m benchmarks.count_backbones",
        "python -m benchmarks.explanations",
        "python -m benchmarks.report_so_far",
        "python -m benchmarks.scale",
    ),
}


def shown(command: Command) -> str:
    return f"{command.page}: {command.text}"


@cache
def defined_tests() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}


def variables_of(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if re.match(r"[A-Z]+=", word))


def of_the_program(command: Command) -> list[str] | None:
    """The words that the program itself would get, or None for a command of another program."""
    program, *words = command.words
    if program == "keras-bench":
        return words
    if words[:2] == ["-m", "keras_bench.run"]:
        return ["run", *words[2:]]
    if program == "make" and words[0].removesuffix("-all") in SUITES:
        variables = variables_of(words[1:])
        data = ["--data", variables["DATA"]] if "DATA" in variables else []
        experiment = words[0].removesuffix("-all")
        return ["suite", *data, "--experiment", experiment, *variables.get("ARGS", "").split()]
    return None


@pytest.mark.parametrize("command", COMMANDS, ids=shown)
def test_every_command_parses(command, capsys):
    program, *words = command.words
    own = of_the_program(command)
    if own is not None and len(own) == 1 and command.in_text:  # a verb by its name alone
        with pytest.raises(SystemExit) as end:
            parse([*own, "--help"])
        assert end.value.code == 0
    elif own is not None and own[0] == "predict":
        parse_predict(own[1:], None, "keras-bench predict")
    elif own is not None:
        parse(own)
    elif program == "make":
        targets = [word for word in words if "=" not in word]
        variables = variables_of(words)
        assert len(targets) + len(variables) == len(words)
        assert all(re.search(rf"^{target}:.* ## ", MAKEFILE, re.MULTILINE) for target in targets)
        assert all(re.search(rf"\$\((or \$\()?{name}\)", MAKEFILE) for name in variables)
    elif words[0] == "-m" and words[1].startswith("benchmarks."):
        source = (ROOT / f"{words[1].replace('.', '/')}.py").read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words[2:] if word.startswith("--"))
    elif words[0] == "-m":
        assert words == ["-m", "keras_bench"]
    else:
        assert words[0].endswith("/predict.py")
        parse_predict(words[1:], Path(words[0]).parent, "predict.py")


@pytest.mark.parametrize("command", [command for command in COMMANDS if of_the_program(command)], ids=shown)
def test_every_setting_of_a_command_is_one(command):
    own = of_the_program(command)
    if own[0] not in ("run", "suite"):
        return
    arguments = parse(own)
    if not (ROOT / "experiments" / f"{arguments.experiment}.yaml").is_file():
        assert arguments.experiment == "photos.yaml"  # the reader's own, shown in your-own-images.md
        return
    experiment = load_experiment(arguments.experiment)
    models = [arguments.model] if own[0] == "run" else arguments.models
    for model in models if models and models != [None] else experiment.models:
        experiment.resolve(model, [parse_setting(text) for text in arguments.settings])


def test_every_command_is_run_by_a_test_or_has_a_reason():
    places = {start: place for table in (RUN_BY, NOT_RUN) for place, starts in table.items() for start in starts}
    used, nowhere = set(), []
    for command in COMMANDS:
        fitting = [start for start in places if f"{command.text} ".startswith(f"{start} ")]
        used |= {max(fitting, key=len)} if fitting else set()
        nowhere += [] if fitting else [shown(command)]
    assert nowhere == []
    assert set(places) - used == set()
    assert set(RUN_BY) - defined_tests() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_key_that_a_page_names_exists(page):
    sections = {name: type(field.default) for name, field in Config.model_fields.items()}
    groups = "|".join(name for name, section in sections.items() if hasattr(section, "model_fields"))
    named = re.findall(rf"(?<![\w./@-])({groups})\.([a-z]\w*)(?![\w.]*(?:\.|/))", page.read_text(encoding="utf-8"))
    files = {"json", "csv", "h5", "keras", "py", "yaml", "md", "npz", "onnx"}
    keys = {(section, key) for section, key in named if key not in files}
    assert {f"{s}.{key}" for s, key in keys if key not in sections[s].model_fields} == set()


def test_the_module_runs_the_command_of_the_readme():
    words = ["--model", "EfficientNetB0", "--phase", "ft", "--show-config"]
    done = subprocess.run([sys.executable, "-m", "keras_bench.run", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("name: tiny-imagenet")


def test_a_command_that_does_not_parse_is_seen():
    with pytest.raises(UserError, match="unknown option '--modle'"):
        parse(["run", "--modle", "VGG16"])
