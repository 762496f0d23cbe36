# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a crash of the matrix runs: on this machine, or in the folder of another release."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

from tests.lab.cache import root
from tests.lab.matrix import Cell
from tests.lab.suites import Suite, install, suite

from .sessions import BIN, SECONDS, Ran, environment, use_index


@cache
def installed(release: str) -> tuple[Suite, Path]:
    """Return the release and the folder in it that the package is installed in."""
    made = suite(release)
    return made, install(made)


class Place:
    """Where a cell's crash runs: this machine, or a release's folder.

    :param index: whether gdb takes its index of the kernel from the cache.
    """

    def __init__(self, cell: Cell, folder: Path, index: bool = False) -> None:
        self.version = cell.crash
        self.index = index
        self.release: Suite | None = None
        self.folder = folder
        programs = BIN
        if cell.folder:
            self.release, home = installed(cell.folder)
            programs = home / "bin"
        self.p2mfix = programs / "p2mfix"

    def run(self, words: list[str | Path], commands: list[str]) -> Ran:
        """Run ``words`` there, with ``commands`` and an end as its input."""
        if self.index:
            use_index(self.folder, self.version, words, lambda home: self._run(words, [], home))
        return self._run(words, commands, self.folder)

    def _run(self, words: list[str | Path], commands: list[str], home: Path) -> Ran:
        if self.release:
            words = [*self.release.command([root(), self.folder], *words)]
        done = subprocess.run(
            words,
            input="\n".join([*commands, "quit", ""]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(home),
            timeout=SECONDS,
            check=False,
        )
        return Ran(done.stdout.decode(errors="replace"), done.returncode)

    def crash_version(self) -> str:
        """Return the version of the crash that runs there."""
        ran = self.run(["crash", "--version"], [])
        found = re.search(r"^crash (\S+)$", ran.text, re.MULTILINE)
        return found[1] if found else ran.text
