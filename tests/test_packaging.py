"""An installed wheel holds the complete package, experiments included, and works outside the checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from keras_bench.config.load import experiment_folders

ROOT = Path(__file__).parents[1]
SOURCES = ("keras_bench", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def experiments_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}


def test_setup_lists_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    packages = {".".join(path.relative_to(ROOT).parts[:-1]) for path in ROOT.glob("keras_bench/**/__init__.py")}
    assert sorted(listed) == sorted({*packages, "keras_bench.experiments"})


def test_without_installation_the_current_folders_experiments_come_before_those_beside_the_package():
    assert experiment_folders() == [Path("experiments"), ROOT / "experiments"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with a wheel built from an sdist; its dependencies come from the tests' environment."""
    folder = tmp_path_factory.mktemp("installed")
    sources = folder / "sources"
    sources.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources)
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run([sys.executable, "-c", build], sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    (sdist,) = folder.glob("*.tar.gz")
    run([*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", sdist], folder)
    (wheel,) = folder.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], folder)
    python = folder / "environment" / "bin" / "python"
    run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # Only the folders: .pth files in them, which may point to this checkout, are not followed.
    (site / "packages-of-the-tests.pth").write_text("\n".join(dependencies))
    shutil.rmtree(sources)
    return folder / "environment" / "bin" / "keras-bench", site


def run(words, folder):
    """Run a command that must succeed, without this checkout on its path; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_installation_holds_the_experiments_once(installed):
    _, site = installed
    assert experiments_in(site / "keras_bench" / "experiments") == experiments_in(ROOT / "experiments")
    assert not (site / "experiments").exists()
    assert not (site.parents[2] / "share" / "keras-bench").exists()
    tables = [path.relative_to(ROOT) for path in ROOT.glob("keras_bench/**/*") if path.suffix in (".csv", ".j2", ".py")]
    assert [path for path in tables if not (site / path).is_file()] == []


@pytest.mark.slow
def test_digits_run_in_another_folder(installed, tmp_path):
    command, site = installed
    python = "import keras_bench; print(keras_bench.__file__)"
    assert run([command.with_name("python"), "-c", python], tmp_path).strip() == str(
        site / "keras_bench" / "__init__.py"
    )
    assert "digits" in run([command, "run", "--experiment", "digits", "--show-config"], tmp_path)
    settings = ("dataset.limit_per_class=6", "scratch.epochs=1", "model.alpha=0.25", "latency.enabled=false")
    words = [word for setting in (*settings, "explain.enabled=false") for word in ("--set", setting)]
    model = ["--model", "MobileNet", "--phase", "scratch", "--weights", "none", "--no-export"]
    run([command, "run", "--experiment", "digits", *model, *words], tmp_path)
    assert (tmp_path / "runs" / "digits" / "MobileNet" / "seed0" / "run.json").is_file()
    assert (tmp_path / "runs" / "digits" / "index.html").is_file()


@pytest.mark.slow
def test_published_figures_and_sweeps_are_found_and_the_current_folder_comes_first(installed, tmp_path):
    command, _ = installed
    python = command.with_name("python")
    code = (
        "from keras_bench.report.study_files import load_study\n"
        "from keras_bench.sweep.file import load_sweep\n"
        "dataset = {'source': 'tiny-imagenet', 'class_names': ['a']}\n"
        "print(len(load_study('tiny-imagenet', dataset).rows), load_sweep('dropout').name, load_sweep('dropout').path)"
    )
    rows, name, path = run([python, "-c", code], tmp_path).split()
    assert (int(rows) > 0, name) == (True, "dropout")
    local = tmp_path / "experiments" / "sweeps" / "dropout.yaml"
    local.parent.mkdir(parents=True)
    shutil.copy(path, local)
    assert run([python, "-c", code], tmp_path).split()[2] == str(local.relative_to(tmp_path))
