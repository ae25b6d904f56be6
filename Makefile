# make serve   environment, install, default model, server: one command on a fresh machine
# make test    the same environment, then every test
# make lint    ruff and mypy over everything
# make bench   a server of its own under growing load, with a picture of it in build/bench.html
# make wheel   a package in dist/ that needs no compiler to install
# make docs    write the generated pages anew
# make clean   remove all that these made, the environment included
#
# Variables: MODEL (hub id, folder or .gguf file), PORT, ARGS (further flags), TESTS (what to test), PYTHON, VENV.

MODEL ?=
PORT ?= 8000
ARGS ?=
TESTS ?= tests
VENV ?= .venv

SOURCES := pyproject.toml constraints.txt CMakeLists.txt tools/install.sh $(wildcard kernels/cpu/*.cpp kernels/cpu/*.h kernels/cpu/csrc/*)
ROOMS := core executor frontend kernels plugins tools

.PHONY: serve test lint bench wheel docs clean

serve: $(VENV)/.installed
	$(VENV)/bin/octavo serve $(MODEL) --port $(PORT) $(ARGS)

test: $(VENV)/.installed-test
	$(VENV)/bin/pytest $(TESTS) $(ARGS)

lint: $(VENV)/.installed-test build/lint/octavo
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	cd build/lint && $(abspath $(VENV))/bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p octavo

bench: $(VENV)/.installed
	$(VENV)/bin/python -m octavo.tools.bench_local --plot build/bench.html $(if $(MODEL),--model $(MODEL)) $(ARGS)

docs: $(VENV)/.installed
	$(VENV)/bin/python -m octavo.tools.cli_docs docs/cli.md

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(SOURCES)
	PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	sh tools/install.sh $(VENV) test
	touch $@

wheel: $(VENV)/.installed
	sh tools/make_wheel.sh $(VENV)

# The folders at the root are one package, octavo: for mypy, which does not know the import hook, they are linked together.
build/lint/octavo: $(wildcard octavo/*)
	rm -rf $@
	mkdir -p $@
	ln -s $(addprefix $(CURDIR)/,$(wildcard octavo/*) $(ROOMS)) $@/
