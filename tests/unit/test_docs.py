# SPDX-License-Identifier: GPL-3.0-or-later
"""The papers say what is so: links, names, commands; test_messages.py has the messages."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import COMMANDS, command_parser, parser
from pykdump_ext.cli.pykdump_ext import parser as pykdump_ext_parser
from pykdump_ext.launch.options import WITH_VALUE

from .test_house import ROOMS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pykdump_ext"
PAPERS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")]
)


def text_of(paper: Path) -> str:
    return (ROOT / paper).read_text()


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of a paper."""

    paper: Path
    language: str
    lines: tuple[str, ...]


def blocks(paper: Path) -> Iterator[Block]:
    """Yield the blocks of a paper that are not prose."""
    text = text_of(paper)
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for language, body in fence.findall(text):
        yield Block(paper, language, tuple(body.splitlines()))
    indented = re.compile(r"(?:\A|\n\n)((?:    .*\n)+)")
    for body in indented.findall(fence.sub("", text)):
        yield Block(paper, "", tuple(line[4:] for line in body.splitlines()))


def spans(paper: Path) -> Iterator[str]:
    """Yield what a paper has between backticks in its prose."""
    prose = re.sub(r"^```.*?^```$", "", text_of(paper), flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def typed(paper: Path) -> Iterator[str]:
    """Yield the command lines of a paper's blocks, with lines that go on joined."""
    for block in blocks(paper):
        if block.language in ("python", "c"):
            continue
        for line in "\n".join(block.lines).replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ") if line.startswith("$ ") else line
            if block.language != "console" or command != line:
                yield command


# --------------------------------------------------------------------------
# Links and names


def anchors(paper: Path) -> set[str]:
    """Return the anchors of a paper's headings, as hosting sites make them."""
    headings = re.findall(r"^#+ +(.*)$", text_of(paper), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_links_lead_somewhere(paper: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(paper)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / paper).parent / path if path else ROOT / paper
        assert file.resolve().is_relative_to(ROOT) and file.exists(), f"{paper}: {target}"
        if anchor:
            assert anchor in anchors(file.resolve().relative_to(ROOT)), f"{paper}: {target}"


def test_every_document_is_linked_from_readme() -> None:
    text = text_of(Path("README.md"))
    for path in PAPERS:
        if path.parts[0] == "docs" or (len(path.parts) == 1 and path.name != "README.md"):
            assert f"]({path})" in text, path


def test_readme_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= 150


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_make_targets_exist(paper: Path) -> None:
    commands = [*spans(paper), *typed(paper)]
    named = {
        word
        for command in commands
        if (words := command.partition("#")[0].split()) and words[0] == "make"
        for word in words[1:]
    }
    assert named <= make_targets()


PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|c|h|1|md|toml|so)")


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_paths_exist(paper: Path) -> None:
    """A path between backticks is one of the repository, or of its package."""
    made = {"crash_host.so", "p2m_preload.so", "stub.so"}  # by the build
    others = {"hello.py", "test_hello.py", "FILE.py", "NAME.py"}
    for span in spans(paper):
        if not PATH.fullmatch(span) or span in made | others or span.startswith("/"):
            continue
        if re.match(r"arch/|xen_dom0\.h|xen/include|pykdump/", span):  # of other projects
            continue
        places = (ROOT, PACKAGE, PACKAGE / "extensions", (ROOT / paper).parent)
        if not any((place / span).exists() for place in places):
            pytest.fail(f"{paper}: there is no {span}")


def test_architecture_names_every_room_in_order_and_every_module() -> None:
    text = text_of(Path("docs/architecture.md"))
    table = text.partition("| room |")[2].partition("\n\n")[0]
    rooms = [
        name.rstrip("/").removesuffix(".py") for name in re.findall(r"^\| `(.+?)`", table, re.M)
    ]
    assert rooms == list(ROOMS)
    named = set(spans(Path("docs/architecture.md")))
    modules = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.glob("*/*.py")
        if path.name != "__init__.py" and path.parent.name not in ("cli", "extensions")
    }
    assert modules <= named, modules - named


def test_the_glossary_says_each_thing_once() -> None:
    words = [
        word.strip()
        for cell in re.findall(r"^\| ([^|]+) \|", text_of(Path("docs/glossary.md")), re.MULTILINE)
        for word in cell.split(",")
        if cell not in ("word", "---")
    ]
    assert len(words) == len(set(words))
    wanted = {
        "pfn", "mfn", "maddr", "p2m", "m2p", "leaf", "mid", "top", "frame list", "dump's list",
        "rebuilt list", "shared page", "missing", "identity", "foreign", "kept", "covered", "root",
        "direct map", "namelist", "note",
    }  # fmt: skip
    assert wanted <= set(words)


def test_no_blank_is_left_to_fill() -> None:
    for paper in PAPERS:
        assert "FILL" not in re.findall(r"\w+", text_of(paper)), paper


# --------------------------------------------------------------------------
# Commands


class Refused(Exception):
    """A command line that its parser does not take."""


def strict(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Have a parser raise, not end the process."""

    def error(message: str) -> None:
        raise Refused(message)

    made.error = error  # type: ignore[method-assign,assignment]
    return made


def check_p2mfix(words: list[str]) -> None:
    """Parse the words behind ``p2mfix`` as it would.

    :raises Refused: it would not take them.
    """
    if words and words[0] in COMMANDS:
        strict(command_parser(words[0])).parse_args(words[1:])
        return
    args, unknown = strict(parser()).parse_known_args(words)
    options_of_crash = {*WITH_VALUE, "-s", "--no_modules"}
    for option in unknown:
        if option.startswith("-") and option not in options_of_crash:
            raise Refused(f"{option} is not an option of crash that the papers may use")
    if len(args.files) < 2:
        raise Refused("a namelist and a dump are wanted")


def check_pykdump_ext(words: list[str]) -> None:
    """Parse the words behind ``pykdump-ext`` as it would.

    :raises Refused: it would not take them.
    """
    made = pykdump_ext_parser()
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                strict(below)
    strict(made).parse_args(words)


def pipelines(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line of shell, without comments and redirections."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "|"]:
        if word in ("|", "&&", ";"):
            yield words
            words = []
        elif word in (">", "<", "2>&1"):
            continue
        else:
            words.append(word)


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_commands_are_known_with_their_options(paper: Path) -> None:
    for line in typed(paper):
        if "p2mfix" not in line and "pykdump-ext" not in line:
            continue
        if "://" in line or line.startswith(("p2mfix:", "crash", "extend", ".", "lab:")):
            continue
        for words in pipelines(line):
            program = Path(words[0]).name if words else ""
            try:
                if program == "p2mfix" and "--help" not in words:
                    check_p2mfix(words[1:])
                elif program == "pykdump-ext":
                    check_pykdump_ext(words[1:])
            except (Refused, ValueError) as error:
                pytest.fail(f"{paper}: {line}: {error}")


def test_readme_has_every_command_and_no_other() -> None:
    text = text_of(Path("README.md"))
    table = set(re.findall(r"^\| `p2mfix ([a-z]+) ", text, re.MULTILINE))
    assert table == set(COMMANDS)


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_commands_in_the_prose_exist(paper: Path) -> None:
    for span in spans(paper):
        words = span.split() or [""]
        if words[0] == "p2mfix" and len(words) > 1 and re.fullmatch("[a-z][a-z_]*", words[1]):
            assert words[1] in COMMANDS or words[1] in ("vmlinux", "vmcore"), f"{paper}: {span}"


# --------------------------------------------------------------------------
# The module crash


def public_names() -> set[str]:
    """Return the public names of the module crash, which only crash can import."""
    (source,) = PACKAGE.rglob("crash.py")
    found: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names == ["__all__"]:
                return set(ast.literal_eval(node.value))
            found.update(names)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_extensions_has_every_name_of_the_module_crash_and_no_other() -> None:
    text = text_of(Path("docs/extensions.md"))
    part = text.partition("## The module crash\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)[`(]", part, re.MULTILINE))
    assert documented == public_names()


def test_signatures_in_extensions_are_those_of_the_source() -> None:
    source = ast.parse((PACKAGE / "host/crash.py").read_text())
    parts = [
        node.module for node in source.body if isinstance(node, ast.ImportFrom) if node.level == 1
    ]
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        + ([f"*{node.args.vararg.arg}"] if node.args.vararg else [])
        + (["*"] if node.args.kwonlyargs else [])
        + [argument.arg for argument in node.args.kwonlyargs]
        for module in {*parts, None}
        for node in ast.parse((PACKAGE / f"host/{module or 'crash'}.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    text = text_of(Path("docs/extensions.md"))
    for name, words in re.findall(r"^\| `(\w+)\(([^)`]*)\)`", text, re.MULTILINE):
        if name in functions:
            assert [w.partition("=")[0].strip() for w in words.split(",") if w] == functions[name]


def test_python_in_papers_is_python() -> None:
    for paper in PAPERS:
        for block in blocks(paper):
            if block.language == "python":
                ast.parse("\n".join(block.lines))
