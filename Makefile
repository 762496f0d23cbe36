# make demo    a real broken Xen dump, crash dying on it, and p2mfix.py opening it
# make test    all tests, real crash and real dumps included
# make matrix  the part of it that runs every crash with every kernel, and its table
# make build   .venv with the package in it
# make bench   start-up, rebuild: time and memory
# make fuzz    fuzzing of files, notes, lists and page tables, guided by coverage
# make lint    ruff and mypy (part of make test)
# make clean   what was built here; the cache of dumps stays

# A Python with a shared library, as distributions build theirs
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

# What the targets need of the distribution: to build, then for the lab
PACKAGES := crash gcc libc6-dev zlib1g-dev libpython3-dev python3-venv \
	binutils cpio makedumpfile mmdebstrap python3-libkdumpfile qemu-system-x86
SOURCES := setup.py pyproject.toml $(shell find pykdump_ext -type f -not -path '*/__pycache__/*')


.PHONY: demo test matrix build bench fuzz lint deps clean
.DELETE_ON_ERROR:

demo: build
	$(BIN)/python -m tests.lab.demo

test: build lint
	$(BIN)/python -m pytest

matrix: build
	$(BIN)/python -m pytest tests/real/test_matrix.py

bench: build
	$(BIN)/python -m tests.bench

fuzz: build
	$(BIN)/pip install --quiet --disable-pip-version-check '.[fuzz]'
	rm -rf build *.egg-info
	$(BIN)/python -m tests.fuzz

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(VENV)/built

$(VENV)/built: $(SOURCES) | deps
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	rm -rf build *.egg-info
	touch $@

# Installs only what is missing, so that a second run needs no root
deps:
	@missing=; for p in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' \
			|| missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		$(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			$(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
