"""Full sessions that began with failing reads: ``p2m fix`` has them show what a whole list shows."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from pykdump_ext.memory import PAGE_SHIFT
from pykdump_ext.p2m import Diagnosis
from tests.lab.broken import copy_of, diagnosis, lose
from tests.lab.cache import root
from tests.lab.dump import Dump
from tests.lab.matrix import Cell, untouched
from tests.lab.packages import Missing
from tests.lab.suites import HOME

from .conftest import BIN, SECONDS, Crash, Ran, environment
from .test_matrix import Place
from .test_repair import digest, to_files, without_dumpfile

COMMANDS = (
    "sys", "bt", "bt -a", "foreach bt", "ps", "ps -t", "ps -m", "mod", "kmem -i", "kmem -s",
    "kmem -v", "kmem -z", "vm", "vm -m", "files", "foreach files", "mount", "net", "dev", "irq",
    "log", "runq", "timer", "p current_task:a", "p runqueues:1", "set", "sym -m xenfs",
    "struct rq.nr_running,cpu runqueues:a", "search -k deadbeefdeadbeef",
)  # fmt: skip
AGAIN = ("bt -a", "ps", "mod", "kmem -s", "kmem -i")
CELLS = (Cell("8.0.2", None, "5.10"), Cell("8.0.6", "trixie", "6.1"))


def pfn_of(found: Diagnosis, vaddr: int) -> int:
    return next(found.pfns_of(found.kernel.mfn_at(vaddr, "lost page")))


def current_tasks(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    """The pages that hold ``current_task`` of each cpu."""
    kernel = found.kernel
    symbol = "current_task" if kernel.symbols.address("current_task") else "pcpu_hot"
    at, offsets = kernel.address(symbol), kernel.address("__per_cpu_offset")
    return [pfn_of(found, at + kernel.word(offsets + 8 * cpu, "offset")) for cpu in range(4)]


def tasks(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    """The pages of the tasks of some kernel threads."""
    named = re.findall(r"([0-9a-f]{16}) .*\[(?:oom_reaper|khungtaskd|kswapd0)\]", printed["ps"])
    assert named
    return [pfn_of(found, int(task, 16)) for task in named]


def modules(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    """The page of a ``struct module`` in the middle of their list."""
    named = re.findall(r"(?m)^([0-9a-f]{16}) ", printed["mod"])
    return [pfn_of(found, int(named[len(named) // 2], 16))]


def slabs(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    """The page of a ``struct kmem_cache``."""
    named = re.findall(r"(?m)^([0-9a-f]{16}) ", printed["kmem -s"])
    return [pfn_of(found, int(named[len(named) // 2], 16))]


Lost = Callable[[Diagnosis, dict[str, str]], list[int]]


def outputs(folder: Path, commands: tuple[str, ...] = COMMANDS) -> dict[str, str]:
    return {
        command: without_dumpfile((folder / str(number)).read_text(errors="replace"))
        for number, command in enumerate(commands)
    }


def everything(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    return [pfn for lost in (current_tasks, tasks, modules, slabs) for pfn in lost(found, printed)]


class Started:
    """A cell's crash, and what it prints on the untouched dump."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.place = Place(cell, folder)
        self.whole = untouched(cell.kernel)
        self.found = diagnosis(self.whole)
        found = self.place.run([self.place.p2mfix.with_name("pykdump-ext"), "host"], [])
        self.host = found.text.strip()
        plain = to_files(COMMANDS, folder / "plain")
        assert self.run(self.whole.vmcore, plain).status == 0
        self.wanted = outputs(folder / "plain")

    def run(self, vmcore: Path, commands: list[str]) -> Ran:
        return self.place.run(["crash", "-s", self.whole.vmlinux, vmcore], commands)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell], Started]:
    made: dict[Cell, Started] = {}

    def start(cell: Cell) -> Started:
        if cell not in made:
            made[cell] = Started(cell, tmp_path_factory.mktemp("refresh") / "here")
        return made[cell]

    return start


@pytest.mark.parametrize(
    ("cell", "lost", "message", "differ"),
    [
        (CELLS[0], current_tasks, 'type: "current_task (per_cpu)"', ["p current_task:a"]),
        (CELLS[0], tasks, 'type: "fill_task_struct"', ["ps", "foreach bt"]),
        (CELLS[0], modules, "cannot access vmalloc'd module memory", ["mod", "sym -m xenfs"]),
        (CELLS[0], slabs, "kmem_cache", ["kmem -s"]),
        (CELLS[0], everything, "", ["ps", "mod", "kmem -s"]),
        (CELLS[1], everything, "", ["mod", "kmem -s"]),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value).partition(" (")[0][:24],
)
def test_fix_in_a_full_session_shows_what_a_whole_list_shows(
    started: Callable[[Cell], Started],
    tmp_path: Path,
    cell: Cell,
    lost: Lost,
    message: str,
    differ: list[str],
) -> None:
    try:
        crash = started(cell)
    except Missing as error:
        pytest.skip(str(error))
    folder = crash.folder / f"{lost.__name__}"
    folder.mkdir()
    vmcore = copy_of(crash.whole, folder)
    lose(crash.whole, vmcore, lost(crash.found, crash.wanted))
    before = digest(vmcore)
    ran = crash.run(
        vmcore,
        [
            *to_files(COMMANDS, folder / "broken"),
            f"extend {crash.host}",
            "extend p2mfix.py",
            *to_files(COMMANDS, folder / "repaired"),
            "p2m fix",
            *to_files(AGAIN, folder / "again"),
        ],
    )
    assert ran.status == 0, ran.text
    assert message in ran.text
    broken = outputs(folder / "broken")
    assert all(broken[command] != crash.wanted[command] for command in differ)
    assert outputs(folder / "repaired") == crash.wanted
    assert outputs(folder / "again", AGAIN) == {c: crash.wanted[c] for c in AGAIN}
    assert digest(vmcore) == before, "the dump was written"
    vmcore.unlink()
