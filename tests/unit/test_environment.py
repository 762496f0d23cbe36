# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment variables by which C and Python talk: named once in C, and the same in Python."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pykdump_ext"
HEADER = next(PACKAGE.rglob("environment.h"))
C_FILES = sorted([*PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")])
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))

NAME = re.compile(r"\bPYKDUMP_EXT_[A-Z0-9_]+\b")
DECLARATION = re.compile(
    r'^/\* Set by (\S+), read by (\S+): [^\n]+ \*/\n#define ENV_(\w+) "(PYKDUMP_EXT_\w+)"$',
    re.MULTILINE,
)
CONSTANT = re.compile(
    r'^[ \t]*([A-Z][A-Z0-9_]*)(?:\s*:[^=\n]+)?\s*=\s*\(?\s*["\'](PYKDUMP_EXT_\w+)["\']',
    re.MULTILINE,
)

DECLARED = {
    match[4]: (match[3], (match[1], match[2])) for match in DECLARATION.finditer(HEADER.read_text())
}
"""By variable: the C constant without ENV_, and the files that set and read it."""
SHARED = {
    name: constant
    for name, (constant, files) in DECLARED.items()
    if any(file.endswith(".py") for file in files)
}
"""By variable that Python uses too: the C constant without ENV_."""


def python_constants() -> dict[str, set[str]]:
    """Return all values of each constant in Python that names a variable of ours."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PYTHON_FILES:
        for match in CONSTANT.finditer(path.read_text()):
            found[match[1]].add(match[2])
    return found


def test_the_header_declares_each_variable_once_with_who_sets_and_who_reads_it() -> None:
    defines = re.findall(r"^#define \w+", HEADER.read_text(), re.MULTILINE)
    assert len(defines) == len(DECLARED) == len({constant for constant, _ in DECLARED.values()})
    assert sorted(NAME.findall(HEADER.read_text())) == sorted(DECLARED)
    assert {"PYKDUMP_EXT_P2M", "PYKDUMP_EXT_PRELOADED"} <= set(DECLARED)


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_c_file_names_a_variable(path: Path) -> None:
    if path != HEADER:
        assert not NAME.findall(path.read_text())
        used = re.findall(r"\bENV_(\w+)", path.read_text())
        assert set(used) <= {constant for constant, _ in DECLARED.values()}


@pytest.mark.parametrize("name", DECLARED)
def test_c_uses_each_variable_in_the_files_that_the_header_says(name: str) -> None:
    constant, files = DECLARED[name]
    using = {path.name for path in C_FILES if re.search(rf"\bENV_{constant}\b", path.read_text())}
    assert using - {HEADER.name} == {file for file in files if file.endswith(".c")}
    assert set(files) <= {path.name for path in [*C_FILES, *PYTHON_FILES]}


@pytest.mark.parametrize("name", SHARED)
def test_python_has_each_shared_variable_under_the_same_name(name: str) -> None:
    assert any(name in NAME.findall(path.read_text()) for path in PYTHON_FILES)
    assert python_constants().get(SHARED[name], {name}) == {name}


def test_a_constant_of_python_has_one_value_and_a_variable_one_constant() -> None:
    constants = python_constants()
    values = [value for found in constants.values() for value in found]
    assert len(values) == len(constants), constants
    assert len(values) == len(set(values)), constants
