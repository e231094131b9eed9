# make demo    H2's ground state on the embedded simulator; the plot goes to out/
# make demo-cluster    LiH's Hessian over two worker processes; the plot goes to out/
# make test    the test suite; of the longest tests some, all with PYTEST_ARGS="-n 3 --thorough"
# make test-newest    the tests of Qiskit and IBM with the newest releases, those of
#              constraints-newest.txt, in an environment of its own, .venv-newest
# make fuzz    random cases against an independent reference: MINUTES=10, SEED=1 (random if not given);
#              scripts of what fails go to out/fuzz/; FUZZ_ARGS="--only tapes shots" picks modes
# make bench   side-by-side measurements; BENCH_ARGS=--quick for a minute or two; peers with environments
#              of their own are measured if their interpreters are named: TENSORCIRCUIT=..., TFQ=..., SQULEARN=...
# make notebooks    runs the notebooks and saves them with their outputs
# make docs    the site, into out/docs, with the notebooks' own run; a warning of Sphinx's or a link to
#              nowhere fails it. DOCS_ARGS="-D nb_execution_mode=off" shows their saved outputs
# make lint    ruff: rules and format; mypy: types
# make dist    the source distribution and the wheel, into dist/
#
# Each installs what it needs into .venv first, again only when pyproject.toml or constraints.txt changed.
# Needs Python 3.11 or newer. To use another one: make test PYTHON=python3.13 VENV=/tmp/venv-3.13

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# pennylane-qiskit has pins that the newest releases of Qiskit are outside of.
EXTRAS ?= test,pennylane-qiskit
PYTEST_ARGS ?= -n 3

RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install -qq --disable-pip-version-check --no-compile -c $(CONSTRAINTS)
# pip would compile the packages on one core. Some have files that are not for this Python; their
# own tests are left out. Each program that a test starts would compile qshift anew where Python
# writes no bytecode (PYTHONDONTWRITEBYTECODE).
COMPILE := $(RUN) -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib qshift

# TensorFlow's C++ log: fatal messages only, and no note about oneDNN.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 0

MINUTES ?= 10

# What Qiskit and its runtime client have a part in.
HARDWARE := tests/executors/qiskit tests/service tests/cli/test_jobs.py tests/cli/test_openqasm.py \
    tests/cli/test_openqasm_definitions.py tests/test_packaging.py

.PHONY: demo demo-cluster test test-newest fuzz bench notebooks docs lint dist

demo: $(VENV)/.installed
	@$(RUN) examples/h2_newton.py --out out/h2_newton.png

demo-cluster: $(VENV)/.installed
	@$(RUN) examples/lih_hessian.py --out out/lih_hessian.png

test: $(VENV)/.installed-test
	$(RUN) -m pytest $(PYTEST_ARGS)

test-newest:
	$(MAKE) test VENV=$(VENV)-newest CONSTRAINTS=constraints-newest.txt EXTRAS=test \
	    PYTEST_ARGS="$(PYTEST_ARGS) $(HARDWARE)"

fuzz: $(VENV)/.installed-test
	PYTHONPATH=tests $(RUN) -m fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(FUZZ_ARGS)

bench: $(VENV)/.installed-test
	$(RUN) benchmarks/run.py $(BENCH_ARGS)

notebooks: $(VENV)/.installed-test
	$(RUN) tests/notebooks.py

docs: $(VENV)/.installed-test
	$(RUN) -m sphinx -W --keep-going -q -b html $(DOCS_ARGS) -d out/doctrees docs out/docs
	$(RUN) docs/check.py out/docs

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

dist: $(VENV)/.installed-test
	rm -rf dist
	$(RUN) -m hatchling build -d dist

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "qshift needs Python 3.11 or newer, which '$(PYTHON)' is not." >&2; \
	    echo "Name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(RUN)
	@echo "Installing qshift into $(VENV); TensorFlow is large, so the first time takes minutes."
	@$(INSTALL) --editable ".[all]"
	-@$(COMPILE)
	@touch $@

# The test environment contains the plain one, so that make demo after make test installs nothing.
$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS) | $(RUN)
	@echo "Installing qshift and its test tools into $(VENV); the first time takes minutes."
	@$(INSTALL) --editable ".[$(EXTRAS)]"
	-@$(COMPILE)
	@touch $(VENV)/.installed $@
