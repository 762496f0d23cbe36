# SPDX-License-Identifier: GPL-3.0-or-later
"""Every crash with every kernel: what p2mfix opens is compared with the untouched dump.

The oracle is the same crash on the untouched dump; of its tasks also the kernel's own count and
drgn.  Where that crash misses tasks, a newer one is the oracle of commands that look at all tasks.

``make test`` runs a slice of it, ``make matrix`` all.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from pykdump_ext.drgn.prog import program
from pykdump_ext.linux.namelist import Namelist
from tests.lab.broken import truncated
from tests.lab.cache import root
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell, untouched
from tests.lab.packages import Missing
from tests.lab.suites import suite

from .counted import rows, shown_count, shown_tasks, tasks_of
from .outputs import by_command, silent, to_files
from .places import Place
from .sessions import Crash, Ran

COMMANDS = (
    "sys", "bt", "bt -a", "ps", "ps -t", "mod", "kmem -i", "kmem -s", "vm", "files", "mount",
    "net", "dev", "irq", "log", "runq", "timer", "p process_counts:a", "p runqueues:1",
    "rd -p 1000000 16", "foreach bt", "foreach files", "ps -m",
)  # fmt: skip
BY_TASKS = ("sys", "ps -t", "runq", "foreach files", "ps -m")
"""Commands that look at all tasks, and print the same in crash 8.0.2 and 8.0.6."""
SLICE = {
    ("7.2.9", "5.10"),
    ("8.0.2", "6.1"),
    ("8.0.2", "newest"),
    ("8.0.6", "6.12"),
    ("9.0.2", "newest"),
}


def died_of(ran: Ran, message: str) -> bool:
    return ran.status == 1 and message in ran.text


def own_errors(text: str) -> set[str]:
    """Return the commands that this crash itself fails on: two equal failures prove nothing."""
    names = "|".join({command.split()[0] for command in COMMANDS} - {"bt", "foreach"})
    return set(re.findall(rf"(?m)^({names}): (?!page excluded)", text))


HEAD = r"(?m)^PID: .*"


def stacks(foreach_bt: str) -> set[str]:
    """Return the stack of each task."""
    return set(re.split(r"\n\n(?=PID: )", foreach_bt.strip("\n")))


def by_a_newer_crash(dump: Dump, folder: Path) -> dict[str, str]:
    """Return what plain crash 8.0.6 prints on a dump."""
    folder.mkdir()
    words = suite("trixie").command([root(), folder], "crash", "-s", dump.vmlinux, dump.vmcore)
    commands = to_files(COMMANDS, folder / "printed")
    ran = Crash(folder, folder, index=False).run(words, [*commands, "quit"])
    assert ran.status == 0, ran.text
    return by_command(COMMANDS, folder / "printed")


def marked(cell: Cell) -> ParameterSet:
    """A cell as a parameter; those that ``make test`` leaves to ``make matrix`` are marked."""
    marks = () if (cell.crash, cell.kernel) in SLICE else pytest.mark.thorough
    return pytest.param(cell, id=str(cell), marks=marks)


def test_the_slice_has_every_crash_every_kernel_and_one_that_cannot() -> None:
    chosen = [cell for cell in CELLS if (cell.crash, cell.kernel) in SLICE]
    assert len(chosen) == len(SLICE)
    assert {c.crash for c in chosen if not c.cannot} == {c.crash for c in CELLS}
    assert {c.kernel for c in chosen if not c.cannot} == {c.kernel for c in CELLS}
    assert [c for c in chosen if c.cannot]


@pytest.mark.parametrize("cell", [marked(cell) for cell in CELLS])
def test_matrix(cell: Cell, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    result = "cannot" if cell.cannot else "passed"
    record_property("cell", f"{cell.crash}|{cell.kernel}|{result}")
    try:
        place = Place(cell, tmp_path)
        whole = untouched(cell.kernel)
        broken = truncated(whole)
    except Missing as error:
        pytest.skip(str(error))
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
        return

    plain = to_files(COMMANDS, tmp_path / "plain")
    if cell.unrecognised:
        assert died_of(place.run(["crash", *files(whole)], []), 'type: "pud page"')
        ran = p2mfix(whole, plain)
    else:
        ran = place.run(["crash", *files(whole)], plain)
    assert ran.status == 0
    assert own_errors(ran.text) == set(cell.fails)

    died = place.run(["crash", *files(broken)], [])
    assert died_of(died, 'type: "current_task (per_cpu)"'), died.text
    assert died_of(died, 'type: "tss_struct ist array"')

    opened = p2mfix(broken, to_files(COMMANDS, tmp_path / "repaired"))
    assert opened.status == 0, opened.text
    wanted = by_command(COMMANDS, tmp_path / "plain")
    shown = by_command(COMMANDS, tmp_path / "repaired")
    assert not silent(COMMANDS, list(wanted.values()))
    assert "sysrq triggered crash" in wanted["sys"]
    assert "sysrq_handle_crash" in wanted["bt"]
    tasks = tasks_of(program(whole.vmcore, whole.vmlinux))
    assert shown_tasks(shown["ps"]) == tasks
    assert shown_count(shown["sys"]) == len(tasks)
    if cell.misses_tasks:
        assert shown_count(wanted["sys"]) == 5
        newer = by_a_newer_crash(whole, tmp_path / "newer")
        wanted |= {command: newer[command] for command in BY_TASKS}
        assert rows(shown.pop("ps")) == rows(newer["ps"])  # of memory crash 8.0.2 counts less
        few, many = wanted.pop("foreach bt"), shown.pop("foreach bt")
        assert stacks(few) <= stacks(many)
        assert re.findall(HEAD, many) == re.findall(HEAD, newer["foreach bt"])
        del wanted["ps"]
    assert shown == wanted


@pytest.mark.thorough
def test_crash_7_2_9_does_not_know_the_kernels_of_4_14_to_4_19_either(tmp_path: Path) -> None:
    """They have ``pv_init_ops``, and no ``xen_patch()`` (Linux commit edcb5cf84f05, in v4.14).

    The lab has no such kernel: the vmlinux of 5.10 gets the symbol.
    """
    cell = next(cell for cell in CELLS if cell.unrecognised)
    try:
        place, whole = Place(cell, tmp_path), untouched(cell.kernel)
    except Missing as error:
        pytest.skip(str(error))
    address = Namelist(whole.vmlinux).address("pv_ops")
    vmlinux = tmp_path / whole.vmlinux.name
    symbol = f"--add-symbol=pv_init_ops={address:#x},global"
    subprocess.run(
        ["objcopy", "--remove-relocations=*", symbol, whole.vmlinux, vmlinux], check=True
    )
    files: list[str | Path] = [vmlinux, whole.vmcore, "-s"]
    assert died_of(place.run(["crash", *files], []), 'type: "pud page"')
    opened = place.run([place.p2mfix, *files], ["sys"])
    vmlinux.unlink()
    assert opened.status == 0 and "    NODENAME: lab\n" in opened.text, opened.text
