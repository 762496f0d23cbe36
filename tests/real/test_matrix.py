"""Every crash with every kernel: what p2mfix opens is compared with the untouched dump."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.lab.broken import truncated
from tests.lab.cache import root
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell, untouched
from tests.lab.packages import Missing
from tests.lab.suites import HOME, Suite, install, suite

from .conftest import BIN, Ran, environment
from .test_repair import to_files, without_dumpfile

COMMANDS = (
    "sys", "bt", "bt -a", "ps", "ps -t", "mod", "kmem -i", "kmem -s", "vm", "files", "mount",
    "net", "dev", "irq", "log", "runq", "timer", "p current_task:a", "p runqueues:1",
    "rd -p 1000000 16",
)  # fmt: skip
SECONDS = 300


@cache
def installed(release: str) -> Suite:
    """The release with the package in it, once a run."""
    made = suite(release)
    install(made)
    return made


class Place:
    """Where a cell's crash runs: this machine, or a release's folder."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self.release = installed(cell.folder) if cell.folder else None
        self.folder = folder
        self.p2mfix = (HOME / "bin" if self.release else BIN) / "p2mfix"

    def run(self, words: list[str | Path], commands: list[str]) -> Ran:
        if self.release:
            words = [*self.release.command([root(), self.folder], *words)]
        done = subprocess.run(
            words,
            input="\n".join([*commands, "quit", ""]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.folder),
            timeout=SECONDS,
            check=False,
        )
        return Ran(done.stdout.decode(errors="replace"), done.returncode)

    def crash_version(self) -> str:
        ran = self.run(["crash", "--version"], [])
        found = re.search(r"^crash (\S+)$", ran.text, re.MULTILINE)
        return found[1] if found else ran.text


def outputs(folder: Path) -> dict[str, str]:
    return {
        command: without_dumpfile((folder / str(number)).read_text(errors="replace"))
        for number, command in enumerate(COMMANDS)
    }


def died_of(ran: Ran, message: str) -> bool:
    return ran.status == 1 and message in ran.text


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_matrix(cell: Cell, tmp_path: Path, matrix: list[tuple[str, str, str]]) -> None:
    try:
        place = Place(cell, tmp_path)
        whole = untouched(cell.kernel)
        broken = truncated(whole)
    except Missing as error:
        matrix.append((cell.crash, cell.kernel, "skipped"))
        pytest.skip(str(error))

    matrix.append((cell.crash, cell.kernel, "FAILED"))
    assert place.crash_version() == cell.crash

    def files(dump: Dump) -> list[str | Path]:
        return [*cell.options, "-s", dump.vmlinux, dump.vmcore]

    def p2mfix(dump: Dump, commands: list[str]) -> Ran:
        words: list[str | Path] = [place.p2mfix, dump.vmlinux, dump.vmcore, "-s", *cell.options]
        return place.run(words, commands)

    if cell.cannot:  # so there is nothing to compare; p2mfix must end as plain crash does
        for ran in (place.run(["crash", *files(whole)], []), p2mfix(whole, []), p2mfix(broken, [])):
            assert died_of(ran, cell.cannot), ran.text[-2000:]
            assert "Traceback" not in ran.text
        matrix[-1] = (cell.crash, cell.kernel, "cannot")
        return

    plain = to_files(COMMANDS, tmp_path / "plain")
    if cell.unrecognised:
        assert died_of(place.run(["crash", *files(whole)], []), 'type: "pud page"')
        assert p2mfix(whole, plain).status == 0
    else:
        assert place.run(["crash", *files(whole)], plain).status == 0

    died = place.run(["crash", *files(broken)], [])
    assert died_of(died, 'type: "current_task (per_cpu)"'), died.text
    assert died_of(died, 'type: "tss_struct ist array"')

    opened = p2mfix(broken, to_files(COMMANDS, tmp_path / "repaired"))
    assert opened.status == 0, opened.text
    wanted = outputs(tmp_path / "plain")
    assert "sysrq triggered crash" in wanted["sys"]
    assert "sysrq_handle_crash" in wanted["bt"]
    assert outputs(tmp_path / "repaired") == wanted
    matrix[-1] = (cell.crash, cell.kernel, "passed")
