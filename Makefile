# Besom in a checkout: `make` lists the targets. Whatever a target needs is set up on its first use, into .venv.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

SWEEP = digits
ARGS =
RUN =
PORT = 5000
PYTHON ?=
PIP_ARGS ?=

STAMP = .venv/.installed
# Not the scripts beside it, which begin with the folder's name: in some folders they do not run.
IN_VENV = .venv/bin/python -P -m
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
SOURCES = src tests bench docs examples

# The stamp is written last and holds the checkout's path: a virtual environment that was left half finished,
# was moved, or lost its Python is made anew; one that is merely older than the lock is updated.
installed := $(shell .venv/bin/python -c pass 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(installed),$(CURDIR))
.PHONY: $(STAMP)
ANEW = yes
endif

# A Python counts if it runs, is new enough, and can make virtual environments (Debian packs that apart).
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

.PHONY: help setup sweep train reproduce ui test test-floors test-newest check bench tables docs build lock clean which-run

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## install Besom and its locked dependencies into .venv; PIP_ARGS="…" goes to every pip call

sweep: $(STAMP) ## run a sweep: SWEEP=digits unless said otherwise, ARGS="…" is passed on
	@exec $(IN_VENV) besom.cli sweep $(SWEEP) $(ARGS)

train: $(STAMP) ## train one model: ARGS="model=logistic_regression optimizer.lr=0.05"
	@exec $(IN_VENV) besom.cli train $(ARGS)

reproduce: which-run $(STAMP) ## train a recorded run again and compare: RUN=<run id>; ARGS=--exact in its own code
	@exec $(IN_VENV) besom.cli reproduce $(RUN) $(ARGS)

ui: $(STAMP) ## browse and compare what is recorded, in the MLflow UI: PORT=5000
	@exec $(IN_VENV) besom.cli ui --port $(PORT) $(ARGS)

test: $(STAMP) ## run all tests; ARGS="-k devices" picks some
	@exec env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS $(IN_VENV) pytest $(ARGS)

test-floors: build/floors.txt ## run the tests with the lowest versions that pyproject.toml allows, in build/test-floors
	@$(call TEST_APART,--constraint build/floors.txt)

test-newest: ## run the tests with the newest versions that it allows, in build/test-newest: PYTHON=python3.13
	@$(call TEST_APART,--upgrade)

# $1 goes to pip, beside PIP_ARGS. The environment is made anew: what was installed into it before would count.
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

check: $(STAMP) ## lint, check the format, check the types
	@$(IN_VENV) ruff check $(SOURCES)
	@$(IN_VENV) ruff format --check $(SOURCES)
	@$(IN_VENV) mypy

bench: $(STAMP) ## measure Besom beside its peers: ARGS="--data fashion_mnist --trials 4 --epochs 2"
	@PYTHONPATH=. .venv/bin/python bench/bundles.py $(ARGS)

tables: $(STAMP) ## train the reference experiments and the published tables' rows, five seeds each, into docs/tables.md
	@PYTHONPATH=. .venv/bin/python bench/tables.py $(ARGS)

docs: $(STAMP) ## renew the pages of docs/commands from what --help prints
	@PYTHONPATH=. .venv/bin/python docs/pages.py

build: $(STAMP) ## build the wheel into dist/
	@.venv/bin/python -m build --wheel --no-isolation

lock: ## renew constraints.txt with the newest versions that pyproject.toml allows: PYTHON=python3.11
	@$(FIND_PYTHON); "$$python" -m venv --clear build/lock
	@echo "installing the newest versions into build/lock …"
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[dev,browser]'
	@build/lock/bin/python -m pip freeze --all --exclude pip --exclude besom > build/freeze.txt
	@{ grep '^#' constraints.txt; sed 's/+[^ ;]*$$//' build/freeze.txt; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -rf build/lock build/freeze.txt
	@echo "constraints.txt: $$(grep -c == constraints.txt) versions; look at the difference, then: make test"

clean: ## remove .venv, caches and build products; what is recorded in mlruns/ and data/ stays
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
