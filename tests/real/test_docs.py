# SPDX-License-Identifier: GPL-3.0-or-later
"""What the papers show is what happens: their console blocks are run on the lab's truncated dump.

A fenced block that is marked ``console`` has lines ``$ COMMAND`` for the shell, lines
``crash> COMMAND`` for the session that the command before them starts, and what is printed.  The
folder has the dump as ``vmcore`` and its kernel as ``vmlinux``, and the Python blocks of the paper
that begin with ``# NAME.py``.  What is printed must have the shape of what the paper shows: numbers
may differ, and ``...`` stands for anything, on a line of its own for any number of lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.dump import Dump

from .sessions import BIN, Crash

ROOT = Path(__file__).parents[2]
PAPERS = [
    path.relative_to(ROOT)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    if "\n```console\n" in path.read_text()
]
NUMBER = re.compile(r"\b(?=[0-9a-fA-F,.]*\d|[0-9a-fA-F]{2,}\b)[0-9a-fA-F][0-9a-fA-F,.]*")


@dataclass
class Typed:
    """A command of the shell, what the session after it is given, and what both print."""

    line: str
    session: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def commands(block: str) -> Iterator[Typed]:
    made: Typed | None = None
    for line in block.splitlines():
        if line.startswith("$ "):
            if made:
                yield made
            made = Typed(line[2:])
            continue
        assert made, "a console block begins with a command"
        if line.startswith("crash> "):
            made.session.append(line[7:])
        else:
            made.shown.append(line)
    if made:
        yield made


def shape(line: str) -> str:
    """Return a line without what differs from dump to dump."""
    short = re.sub(r"([^\w\s.])\1{3,}|([a-z])\2{3,}", r"\1\2", NUMBER.sub("N", line))
    return " ".join(short.split())


def lines_of(printed: str) -> list[str]:
    """Return the lines of what was printed, without crash's notices of progress.

    Nor the commands: crash 8.0.6 prints those that it reads from a pipe, 8.0.2 does not.
    """
    text = re.sub(r"\r[^\r\n]*(?=[\r\n])", "", printed).replace("\r", "")
    lines = map(shape, text.splitlines())
    return [line for line in lines if line and not line.startswith("crash> ")]


def pattern(shown: list[str]) -> str:
    """Return a regular expression for lines with the shapes of those that a paper shows."""
    parts = []
    for line in filter(None, map(shape, shown)):
        text = re.escape(line).replace(re.escape("..."), ".*")
        parts.append("(?:.*\n)*?" if line == "..." else f"{text}\n")
    return "".join(parts)


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_console_blocks(paper: Path, crash: Crash, truncated: Dump) -> None:
    (crash.folder / "vmlinux").symlink_to(truncated.vmlinux)
    (crash.folder / "vmcore").symlink_to(truncated.vmcore)
    path = f"{BIN}:{os.environ['PATH']}"
    crash.run(["pykdump-ext", "setup"], PATH=path)
    text = (ROOT / paper).read_text()
    for name, body in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", text, re.M | re.S):
        (crash.folder / name).write_text(body)
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for typed in commands(block):
            session = [*typed.session, "quit"] if typed.session else []
            ran = crash.run(["sh", "-c", typed.line], session, PATH=path, PYTEST_ADDOPTS="")
            printed = "".join(f"{line}\n" for line in lines_of(ran.text))
            assert ran.status == 0, f"{typed.line}\n{ran.text}"
            assert re.fullmatch(pattern(typed.shown), printed), (
                f"{paper}: $ {typed.line}\nshows\n{pattern(typed.shown)}\nand prints\n{printed}"
            )


def test_the_shape_of_a_line() -> None:
    assert shape("pfn 1cac7: 85.6% of 179,200 pages; 0.020 s") == "pfn N: N% of N pages; N s"
    assert shape("   24000  ######iiiiiiiii!") == "N #i!"
    assert shape("...") == "..."
    assert re.fullmatch(pattern(["...", "a 1", "...", "b ..."]), "x\ny\na N\nb N c\n")
    assert not re.fullmatch(pattern(["a 1", "b"]), "a N\nx\nb\n")
    assert not re.fullmatch(pattern(["a 1"]), "a N\nb\n")
