# keras-bench. `make help` lists the targets; every other target creates .venv first if it is missing.
PYTHON ?= python3
BIN := .venv/bin
KERAS_BENCH := $(BIN)/keras-bench
# Two test files at a time: most of the time, each waits for TensorFlow's tracing, which uses one core.
IN_PARALLEL = -n 2 --dist loadscope
SUITE = $(KERAS_BENCH) suite $(if $(DATA),--data "$(DATA)")

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all coverage torture lint security lock bench report
.PHONY: tiny-imagenet-all intel-all imagenet100-all cifar10-all folder-all

help: ## list the targets
	@echo "make TARGET [DATA=folder-or-zip] [ARGS='options of keras-bench suite']"
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 22

setup: .venv/.installed ## create .venv and install keras-bench with its tools (a few minutes, once)

.venv/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: expected Python 3.11 to 3.13, received $$($(PYTHON) --version); use make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,tfds,tensorboard]'
	@touch $@

demo: .venv/.installed ## transfer learning on digits in photographs, offline and without weights (a few minutes)
	@echo "Two networks learn the digits 0 to 4 from scratch and are transferred to 5 to 9: no download, a few minutes on two"
	@echo "cores, 100 MB in runs/, exports/ and the cache. Stop it at any time: the same command goes on."
	$(KERAS_BENCH) suite --experiment demo-pretrain $(ARGS)
	$(KERAS_BENCH) suite --experiment demo $(ARGS)

test: .venv/.installed ## the tests that CI runs
	$(BIN)/python -m pytest -m "not slow" $(IN_PARALLEL) $(ARGS)

test-all: .venv/.installed ## all tests, including slow ones
	$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

coverage: .venv/.installed ## the tests that CI runs, with the lines of the package that none of them reaches
	$(BIN)/python -m pytest -m "not slow" $(IN_PARALLEL) --cov --cov-report term $(ARGS)

torture: .venv/.installed ## kill runs 200 times at every stage, run them 100 times in pairs, decode 200,000 damaged images (1 to 2 hours)
	$(BIN)/python -m tests.torture $(ARGS)
	$(BIN)/python -m tests.fuzz_images --count 200000 --seed 0

lint: .venv/.installed ## check format, lint rules, types and layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

security: .venv/.installed ## check dependencies: known vulnerabilities (needs a network), licences
	$(BIN)/python .ci/security.py

lock: .venv/.installed ## write requirements.lock anew: the newest versions that setup.cfg allows, with hashes (needs a network)
	$(BIN)/uv pip compile setup.cfg --all-extras --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	  --no-emit-index-url --quiet --output-file requirements.lock

bench: .venv/.installed ## compare speed and memory with plain Keras
	$(BIN)/python -m benchmarks.compare_training $(if $(DATA),--data "$(DATA)") $(ARGS)

report: .venv/.installed ## rebuild the report of an experiment: make report NAME=demo
	$(KERAS_BENCH) report $(or $(NAME),demo) $(ARGS)

tiny-imagenet-all: .venv/.installed ## study 1: VGG16, ResNet50, EfficientNetB0 on Tiny ImageNet
	$(SUITE) --experiment tiny-imagenet $(ARGS)

intel-all: .venv/.installed ## study 2: EfficientNetB0 against ResNet50 on Intel's scenes; needs DATA=
	$(SUITE) --experiment intel $(ARGS)

imagenet100-all: .venv/.installed ## study 3: ResNet18, 34, 50 and EfficientNetB0 from scratch; needs DATA=
	$(SUITE) --experiment imagenet100 $(ARGS)

cifar10-all: .venv/.installed ## study 4: EfficientNet against ResNet as families on CIFAR-10
	$(SUITE) --experiment cifar10 $(ARGS)

folder-all: .venv/.installed ## study 5: three networks on your own folder of images; needs DATA=
	$(SUITE) --experiment folder $(ARGS)
