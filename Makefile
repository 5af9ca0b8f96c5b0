# Besom in a checkout: `make` lists the targets. A target that needs .venv creates it on its first use.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

SWEEP = digits
ARGS =
RUN =
PORT = 5000
PYTHON ?=
PIP_ARGS ?=

STAMP = .venv/.installed
# Not the scripts beside it: their first line has the folder's path, and with some paths they do not run.
IN_VENV = .venv/bin/python -P -m
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
SOURCES = src tests bench docs examples
TEST_IN_VENV = env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS $(IN_VENV) pytest

# The stamp is written last and contains the checkout's path: a virtual environment that is incomplete, was moved,
# or lost its Python is recreated; one that is only older than the lock is updated.
installed := $(shell .venv/bin/python -c pass 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(installed),$(CURDIR))
.PHONY: $(STAMP)
ANEW = yes
endif

# A usable Python runs, is new enough, and can create virtual environments (a separate package in Debian).
define FIND_PYTHON
for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
  "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
  python=; \
done; \
if [ -z "$$python" ]; then \
  echo "besom needs Python 3.11 or newer, with venv, and found none$(if $(PYTHON), in PYTHON=$(PYTHON));" \
    "install one (Debian: apt install python3-venv), or name one: make setup PYTHON=/path/to/python3" >&2; \
  exit 1; \
fi
endef

.PHONY: help setup sweep train reproduce ui check lint types test test-zones test-floors test-newest docs lock build \
  bench tables clean which-run

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
	  $(firstword $(MAKEFILE_LIST))

##@ Use Besom

setup: $(STAMP) ## install Besom and its locked dependencies into .venv (other targets do it too); PIP_ARGS="…" goes to pip

sweep: $(STAMP) ## run a sweep: make sweep SWEEP=digits ARGS="hydra.sweeper.n_trials=50"
	@exec $(IN_VENV) besom.cli sweep $(SWEEP) $(ARGS)

train: $(STAMP) ## train one model: make train ARGS="model=logistic_regression optimizer.lr=0.05"
	@exec $(IN_VENV) besom.cli train $(ARGS)

reproduce: which-run $(STAMP) ## train a recorded run again and compare: make reproduce RUN=<run id> ARGS=--exact
	@exec $(IN_VENV) besom.cli reproduce $(RUN) $(ARGS)

ui: $(STAMP) ## browse and compare recorded runs in the MLflow UI: make ui PORT=5000
	@exec $(IN_VENV) besom.cli ui --port $(PORT) $(ARGS)

##@ Change Besom

check: lint types ## run lint and types

lint: $(STAMP) ## check the code and its format with ruff
	@$(IN_VENV) ruff check $(SOURCES)
	@$(IN_VENV) ruff format --check $(SOURCES)

types: $(STAMP) ## check the types with mypy
	@$(IN_VENV) mypy

test: $(STAMP) ## run all tests; some of them: make test ARGS="-k devices"
	@exec $(TEST_IN_VENV) $(ARGS)

docs: $(STAMP) ## regenerate the pages of docs/commands from the output of --help
	@PYTHONPATH=. .venv/bin/python docs/pages.py

##@ Test and release, less often

test-zones: $(STAMP) ## run the tests of times again in time zones behind and ahead of UTC
	@for zone in America/New_York Asia/Kolkata; do \
	  TZ=$$zone $(TEST_IN_VENV) tests/reports tests/tracking/test_runs.py tests/studies/test_cards.py || exit; \
	done

test-floors: build/floors.txt ## run the tests with the lowest versions that pyproject.toml allows, in build/test-floors
	@$(call TEST_APART,--constraint build/floors.txt)

test-newest: ## run them with the newest versions, in build/test-newest: make test-newest PYTHON=python3.13
	@$(call TEST_APART,--upgrade)

# pip gets $1 and PIP_ARGS. The environment is recreated, because earlier installed packages would affect the result.
define TEST_APART
$(FIND_PYTHON); "$$python" -m venv --clear build/$@ && \
echo "installing into build/$@ with $$("$$python" --version) …" && \
build/$@/bin/python -m pip install --quiet --disable-pip-version-check $1 $(PIP_ARGS) --editable '.[dev,browser]' && \
build/$@/bin/python -m pip freeze | grep -iE '^(hydra-core|omegaconf|optuna|mlflow|torch|torchvision|pytorch-lightning|pandas)==' && \
env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS build/$@/bin/pytest $(ARGS)
endef

build/floors.txt: pyproject.toml .ci/floors.py
	@mkdir -p build
	@$(FIND_PYTHON); "$$python" .ci/floors.py > $@

build: $(STAMP) ## build the wheel in dist/
	@.venv/bin/python -m build --wheel --no-isolation

lock: ## update constraints.txt to the newest versions that pyproject.toml allows: make lock PYTHON=python3.11
	@$(FIND_PYTHON); "$$python" -m venv --clear build/lock
	@echo "installing the newest versions into build/lock …"
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[dev,browser]'
	@build/lock/bin/python -m pip freeze --all --exclude pip --exclude besom > build/freeze.txt
	@{ grep '^#' constraints.txt; sed 's/+[^ ;]*$$//' build/freeze.txt; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -rf build/lock build/freeze.txt
	@echo "constraints.txt: $$(grep -c == constraints.txt) versions; look at the difference, then: make test"

bench: $(STAMP) ## compare Besom with other tools: make bench ARGS="--data fashion_mnist --trials 4 --epochs 2"
	@PYTHONPATH=. .venv/bin/python bench/bundles.py $(ARGS)

tables: $(STAMP) ## train the reference experiments and published tables with five seeds each, into docs/tables.md
	@PYTHONPATH=. .venv/bin/python bench/tables.py $(ARGS)

clean: ## remove .venv, caches and build products; mlruns/ and data/ stay
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +

which-run:
	@$(if $(RUN),,$(error say which run: make reproduce RUN=<run id>; a sweep and a run print it as their last line))

$(STAMP): pyproject.toml constraints.txt
	@[ -z "$(ANEW)" ] || { $(FIND_PYTHON); \
	  case "$$PWD" in *:*) echo "Python makes no environment in a folder with : in its name; rename $$PWD" >&2; \
	    exit 1;; esac; \
	  echo "making .venv with $$("$$python" --version): with PyTorch's CUDA builds some 6 GB, which takes minutes;" && \
	  echo "without a GPU: make setup PIP_ARGS=\"--extra-index-url URL\", URL being PyTorch's index of CPU builds" && \
	  "$$python" -m venv --clear .venv; }
	@rm -f $@
	@echo "installing the versions of constraints.txt into .venv …"
	@$(INSTALL) editables hatchling setuptools
	@$(INSTALL) --no-build-isolation --editable '.[dev,browser]'
	@pwd -P > $@
	@echo ".venv is ready"
