# SPDX-License-Identifier: GPL-3.0-or-later
"""The house: which room imports which, and how large its files are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pykdump_ext"
LONGEST = 350  # lines
LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later"

# From the ground up: a room may import those before it, and itself.
ROOMS = (
    "errors", "limits", "installed", "progress", "machine", "linux", "xen", "p2m", "outputs",
    "native", "opened", "reports", "rewrite", "drgn", "parts", "types", "drgn_plugin", "launch",
    "host", "extensions", "cli",
)  # fmt: skip

# Larger files, each with the reason why it is not two.
LARGER: dict[str, str] = {}


def modules() -> dict[str, Path]:
    """Return every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, wherever in its code."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                inside = f"{module}.{alias.name}"
                if inside in known:
                    yield inside
                elif module in known:
                    yield module


def graph() -> dict[str, set[str]]:
    """Return, for each module, the modules of the package that it imports."""
    known = modules()
    return {name: {*imports(name, path, known)} - {name} for name, path in known.items()}


def room(module: str) -> str:
    """Return the room of a module; the package itself is none."""
    return module.split(".")[1] if "." in module else ""


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    found = graph()
    assert len(found) > 60
    order = {name: number for number, name in enumerate(("", *ROOMS))}
    assert {room(name) for name in found} == set(order)
    arrows = {
        (room(name), room(used)) for name, others in found.items() for used in others
    }  # fmt: skip
    with capsys.disabled():
        print()
        for start in ROOMS:
            uses = [end for end in ROOMS if (start, end) in arrows and end != start]
            print(f"  {start:<10} -> {', '.join(uses) or 'nothing'}")
    assert len(arrows) > len(ROOMS)
    upward = {(start, end) for start, end in arrows if order[end] > order[start]}
    assert not upward


def test_no_circle_of_modules() -> None:
    found = graph()
    assert {*TopologicalSorter(found).static_order()} == {*found}  # a circle is a CycleError


def sources() -> dict[str, str]:
    """Return the text of every file of code, by its path from the top."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in (PACKAGE, ROOT / "tests", ROOT / "examples")
        for kind in ("*.py", "*.pyi", "*.c", "*.h")
        for path in folder.rglob(kind)
    } | {"setup.py": (ROOT / "setup.py").read_text()}


def test_every_file_of_code_begins_with_its_licence() -> None:
    found = sources()
    assert {Path(name).suffix for name in found} == {".py", ".pyi", ".c", ".h"}
    for name, text in found.items():
        first = (
            f"{LICENCE}\n"
            if name.endswith((".py", ".pyi"))
            else f"/*{LICENCE.removeprefix('#')} */\n"
        )
        assert text.startswith(first), name


def test_files_are_small() -> None:
    sizes = {name: len(text.splitlines()) for name, text in sources().items()}
    assert len(sizes) > 100
    larger = {name: size for name, size in sizes.items() if size > LONGEST}
    assert larger.keys() == LARGER.keys(), larger


def test_every_module_says_what_it_gives() -> None:
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), name
        public = [
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
        ]
        names = [
            element.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
            and isinstance(node.value, ast.List)
            for element in node.value.elts
            if isinstance(element, ast.Constant)
        ]
        assert not public or names or room(name) == "extensions", f"{name} has no __all__"


def test_python_calls_what_the_c_side_declares() -> None:
    header = (PACKAGE / "host/host.h").read_text()
    declared = {*re.findall(r"\b(\w+)\(", header), *re.findall(r"^#define (\w+)", header, re.M)}
    called = {
        name
        for path in (PACKAGE / "host").glob("*.py")
        for name in re.findall(r"\blib\.(\w+)", path.read_text())
    }
    assert len(called) > 30
    assert not called - declared


def test_no_path_is_a_part_of_a_format() -> None:
    """A ``%`` in the path of a clone is an ordinary letter."""
    for name, text in sources().items():
        code = re.sub(r"^#define .*$", "", text, flags=re.M)
        path = r"\b(?:PIP_INSTALL|BUILD_AGAIN|PYTHON_EXECUTABLE)\b"
        assert not re.search(rf'"\s*{path}|{path}\s*"', code if name.endswith(".c") else ""), name


# What makes, changes or removes a file: methods, functions of os and shutil, modes and flags
WRITING = re.compile(
    r"\.(?:write_text|write_bytes|touch|rename|unlink|symlink_to|hardlink_to)\("
    r"|\b(?:os|shutil)\.(?:copy\w*|move|remove|rename|replace|link|symlink|f?truncate|sendfile|rmtree)\("
    r"|\btempfile\."
    r"|\bopen\((?:[^()]|\([^()]*\))*'[rbt]*[wax+][wabt+]*'"
    r"|\bos\.open\((?!os\.devnull).*\bO_(?:WRONLY|RDWR|CREAT|TMPFILE)"
)
WRITERS = {
    "pykdump_ext.outputs": "the door",
    "pykdump_ext.native.packed": "lets makedumpfile read a file without a name",
    "pykdump_ext.native.dump": "sets the size of the file that the door has opened",
    "pykdump_ext.rewrite.copies": "copies into the file that the door has opened",
    "pykdump_ext.cli.pykdump_ext": "writes the stub and its link, and removes them",
    "pykdump_ext.cli.checkout": "makes the link to a checkout of PyKdump, and removes it",
    "pykdump_ext.cli.user_files": "writes the lines of .crashrc and .gdbinit",
    "pykdump_ext.cli.gdbinit": "writes the script that .gdbinit runs, and removes it and the cache",
    "pykdump_ext.launch.index_cache": "keeps its notes beside gdb's indexes, and removes indexes",
    "pykdump_ext.linux.packed": "unpacks a vmlinux into a file that has no name",
    "pykdump_ext.host.restart": "hands the history on to the next crash",
}


def test_files_are_written_through_one_door() -> None:
    code = {name: ast.unparse(ast.parse(path.read_text())) for name, path in modules().items()}
    assert {name for name, text in code.items() if WRITING.search(text)} == WRITERS.keys()


@pytest.mark.parametrize(
    "text",
    ["open(path, 'wb')", "Path(name).open('a')", "open(str(path), mode='r+b')",
     "path.write_text('')",
     "os.open(path, os.O_RDWR | os.O_CREAT)", "shutil.copyfile(a, b)", "tempfile.mkstemp()"],
)  # fmt: skip
def test_the_house_knows_what_writes_a_file(text: str) -> None:
    assert WRITING.search(text)
    assert not WRITING.search("open(path, 'rb')\nlist.remove(a)\nos.open(path, os.O_RDONLY)")
