# Every target makes and reuses .venv by itself; nothing has to be installed by hand.

# python3.11 first: it is the version that CI uses. `make PYTHON=...` names another one.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.11 python3 python3.14 python3.13 python3.12; do \
	if $$name -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$name; break; fi; done)
BIN := .venv/bin
READY := .venv/ready

.PHONY: help demo test check test-interop lint bench docs size clean

help:
	@echo 'make demo          a U-Net on a photograph and a vocoder on a voice: checked, mended, measured'
	@echo 'make test          everything this machine can do: format, lint, types, all tests'
	@echo 'make check         the same without the slow tests; under two minutes'
	@echo 'make test-interop  other frameworks themselves, in an environment of 4 GB of their own'
	@echo 'make bench         the layer suite against torch on this machine, forward and backward'
	@echo 'make docs          the pages, into site/'
	@echo 'make size          lines per floor'
	@echo 'make clean         remove .venv and everything built'

demo: $(READY)
	$(BIN)/python -m polyphase.tools.demo

test: lint
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --quiet tests/interop_oracles/test_onnxruntime.py

check: lint
	$(BIN)/python -m pytest -m 'not slow'

# one process for each: they bring libraries that do not always bear each other
test-interop: .venv-interop/ready
	@status=0; for file in tests/interop_oracles/test_*.py; do \
	  echo $$file; .venv-interop/bin/python -m pytest --quiet $$file || status=1; done; exit $$status

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m polyphase bench --json bench/results
	$(BIN)/python -m polyphase bench --backward --seconds 0.5 --json bench/results
	$(BIN)/python bench/publish.py

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/mkdocs build --strict

size:
	@find src/polyphase -name '*.py' -exec wc -l {} \; | awk '\
	  { split($$2, part, "/"); floor = part[3]; sub(/\.py$$/, "", floor); \
	    lines[floor] += $$1; files[floor]++; total += $$1; \
	    if ($$1 > longest[floor]) { longest[floor] = $$1; name[floor] = $$2 } } \
	  END { n = split("errors arithmetic engine gpu functional nn acceleration interop models tools cli __main__ __init__", order, " "); \
	    printf "%-12s %5s %6s  %s\n", "floor", "files", "lines", "longest"; \
	    for (i = 1; i <= n; i++) if (order[i] in lines) { f = order[i]; \
	      printf "%-12s %5d %6d  %d %s\n", f, files[f], lines[f], longest[f], name[f] } \
	    printf "%-12s %5s %6d\n", "all", "", total }'

clean:
	rm -rf .venv .venv-interop site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv-interop/ready: pyproject.toml
	@echo 'Preparing .venv-interop with $(PYTHON): some minutes, once.'
	@$(PYTHON) -m venv .venv-interop
	@.venv-interop/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[interop]'
	@touch $@

# pip's own configuration decides where packages come from, so a machine that keeps CPU builds of
# torch on another index needs PIP_EXTRA_INDEX_URL in its environment and nothing here
$(READY): pyproject.toml
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { echo 'polyphase needs Python 3.11 or newer, and' \
	  '"$(or $(PYTHON),nothing on PATH)" is not: name one with `make PYTHON=path/to/python`' >&2; exit 1; }
	@echo 'Preparing .venv with $(PYTHON): about a minute, once.'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
