# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment variables by which C and Python talk: named once in C, and the same in Python."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pykdump_ext"
HEADER = PACKAGE / "launch/environment.h"
PYTHON = PACKAGE / "launch/environment.py"
C_FILES = sorted([*PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")])
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))

NAME = re.compile(r"\bPYKDUMP_EXT_[A-Z0-9_]+\b")
DECLARATION = re.compile(
    r'^/\* Set by (\S+), read by ([^:]+): [^\n]+ \*/\n#define ENV_(\w+) "(PYKDUMP_EXT_\w+)"$',
    re.MULTILINE,
)
DESCRIBED = re.compile(
    r'^([A-Z][A-Z0-9_]*) = "(PYKDUMP_EXT_\w+)"\n'
    r'"""[^"]*:\sset by (\S+), (?:read|restored) by ([^"]+)\."""$',
    re.MULTILINE,
)


def files_in(text: str) -> list[str]:
    """Return the files that a text names, such as ``full_session.py and leave.c``."""
    return re.findall(r"[\w/]+\.(?:py|c)\b", text)


DECLARED = {
    match[4]: (match[3], (match[1], *files_in(match[2])))
    for match in DECLARATION.finditer(HEADER.read_text())
}
"""By variable: the C constant without ENV_, and the files that set and read it."""
SHARED = {
    name: [file for file in files if file.endswith(".py")]
    for name, (_, files) in DECLARED.items()
    if any(file.endswith(".py") for file in files)
}
"""By variable that Python uses too: the files of Python that set or read it."""


def python_constants() -> dict[str, list[str]]:
    """Return the constants of ``launch/environment.py`` by their value, a variable's name."""
    found: dict[str, list[str]] = defaultdict(list)
    for node in ast.parse(PYTHON.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found[str(node.value.value)] += [t.id for t in node.targets if isinstance(t, ast.Name)]
    return found


def used_in(path: Path) -> set[str]:
    """Return the constants of ``launch/environment.py`` that a file imports and then uses."""
    tree = ast.parse(path.read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("environment")
        for alias in node.names
        if alias.asname is None
    }
    return imported & {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


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
def test_python_has_one_constant_for_each_shared_variable_and_uses_it(name: str) -> None:
    (constant,) = python_constants()[name]
    for file in SHARED[name]:
        (path,) = PACKAGE.rglob(file)
        assert constant in used_in(path), f"{path} does not use {constant}"


def test_python_sets_and_reads_each_variable_where_its_constant_says() -> None:
    constants = python_constants()
    described = DESCRIBED.findall(PYTHON.read_text())
    assert sorted(constants) == sorted(name for _, name, *_ in described)
    for constant, name, *texts in described:
        assert constants[name] == [constant]  # a variable has one constant
        files = [file for text in texts for file in files_in(text)]
        named = {path for file in files for path in PACKAGE.rglob(Path(file).name)}
        assert {path.name for path in named} == {Path(file).name for file in files}
        using = {path for path in PYTHON_FILES if constant in used_in(path)}
        assert using == {path for path in named if path.suffix == ".py"}
        in_c = {path.name for path in named if path.suffix == ".c"}
        header = DECLARED[name][1] if name in DECLARED else ()
        assert in_c == {file for file in header if file.endswith(".c")}


ELSEWHERE = {
    "drgn_plugin.py": {"PYKDUMP_EXT_DRGN"},  # from a drgn to the one that takes its place
    "host/typeinfo.py": {"PYKDUMP_EXT_TYPES"},  # a user's
    "installed.py": {"PYKDUMP_EXT_NO_HOST"},  # a user's, for setup.py
}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_python_file_names_a_variable(path: Path) -> None:
    named = set(NAME.findall(path.read_text()))
    assert path == PYTHON or named == ELSEWHERE.get(str(path.relative_to(PACKAGE)), set())
