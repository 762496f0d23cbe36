# make demo    a real broken Xen dump, crash dying on it, and p2mfix.py opening it
# make test    the tests, real crash and real dumps included; what it leaves to others:
# make matrix  every crash with every kernel, and their table (make test: 5 of 16)
# make fuzz    fuzzing of files, notes, lists and page tables, guided by coverage, and
#              27 real dumps damaged at random (make test: 9 of 27)
# make test-all  make test with all of the matrix and all of the damaged dumps
# make build   .venv with the package in it
# make bench   start-up, rebuild: time and memory
# make lint    ruff and mypy (part of make test)
# make clean   what was built here; the cache of dumps stays

# A Python with a shared library, as distributions build theirs
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
# So many tests run at once, each with a crash that takes about a gigabyte
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=25
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

# What the targets need of the distribution: to build, then for the lab
PACKAGES := crash gcc libc6-dev zlib1g-dev libpython3-dev python3-venv \
	binutils cpio makedumpfile mmdebstrap python3-libkdumpfile qemu-system-x86
SOURCES := setup.py pyproject.toml $(shell find pykdump_ext -type f -not -path '*/__pycache__/*')


.PHONY: demo test test-all matrix build bench fuzz lint deps clean
.DELETE_ON_ERROR:

demo: build
	$(BIN)/python -m tests.lab.demo

test: build lint
	$(PYTEST) -m "not thorough"

test-all: build lint
	$(PYTEST)

matrix: build
	$(PYTEST) tests/real/test_matrix.py

bench: build
	$(BIN)/python -m tests.bench

fuzz: build
	$(BIN)/pip install --quiet --disable-pip-version-check '.[fuzz]'
	rm -rf build *.egg-info
	$(BIN)/python -m tests.fuzz
	$(PYTEST) tests/real/test_fuzz.py

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
