# make demo    a real broken Xen dump, crash dying on it, and p2mfix.py opening it
# make test    the tests, real crash and real dumps included; what it leaves to others:
# make matrix  every crash with every kernel, and their table (make test: 5 of 16)
# make fuzz    fuzzing of files, notes, lists, page tables and the views of them, guided by
#              coverage, and 27 real dumps damaged at random (make test: 9 of 27)
# make test-all  make test with all of the matrix, all of the damaged dumps, and five times the
#              examples of the property tests
# make build   .venv with the package in it
# make bench   start-up, rebuild: time and memory
# make bench-speed  what commands cost with p2mfix, in plain crash, and on bare metal; of the table
#              in docs/performance.md: ARGS=--write, of other dumps and more: ARGS=--help
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

# Packages of the distribution: those that the build needs, and those that only the lab needs
BUILD_PACKAGES := crash gcc libc6-dev zlib1g-dev libpython3-dev python3-venv
LAB_PACKAGES := binutils bzip2 cpio e2fsprogs makedumpfile mmdebstrap python3-libkdumpfile \
	qemu-system-x86 xz-utils
SOURCES := setup.py pyproject.toml $(shell find pykdump_ext -type f -not -path '*/__pycache__/*')


.PHONY: demo test test-all matrix build bench bench-speed fuzz lint deps lab-deps clean
.DELETE_ON_ERROR:

demo: build lab-deps
	$(BIN)/python -m tests.lab.demo

test: build lint lab-deps
	$(PYTEST) -m "not thorough"

test-all: build lint lab-deps
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-full} $(PYTEST)

matrix: build lab-deps
	$(PYTEST) tests/real/test_matrix.py

bench: build lab-deps
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.outside
	$(BIN)/python -m tests.bench.report

bench-speed: build lab-deps
	$(BIN)/python -m tests.bench.speed $(ARGS)

fuzz: build lab-deps
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
	$(BIN)/pip install --quiet --disable-pip-version-check '.[pictures,drgn,test]'
	rm -rf build *.egg-info
	touch $@

# Installs only the packages that are missing, so that a second run needs no root. A package
# that this release of the distribution does not have is left out.
define install
	@missing=; for p in $(1); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' \
			|| missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	$(SUDO) apt-get update -qq || exit 1; \
	found=; for p in $$missing; do \
		if apt-cache show $$p >/dev/null 2>&1; then found="$$found $$p"; \
		else echo "this release of the distribution has no package $$p"; fi; done; \
	[ -n "$$found" ] || exit 0; \
	echo "installing$$found"; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$found >/dev/null
endef

deps:
	$(call install,$(BUILD_PACKAGES))

lab-deps: deps
	$(call install,$(LAB_PACKAGES))

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
