# SPDX-License-Identifier: GPL-3.0-or-later
"""Every crash with every kernel: what p2mfix opens is compared with the untouched dump.

``make test`` runs a slice of it, ``make matrix`` all.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from pykdump_ext.linux.namelist import Namelist
from tests.lab.broken import truncated
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell, untouched
from tests.lab.packages import Missing

from .outputs import by_command, silent, to_files
from .places import Place
from .sessions import Ran

COMMANDS = (
    "sys", "bt", "bt -a", "ps", "ps -t", "mod", "kmem -i", "kmem -s", "vm", "files", "mount",
    "net", "dev", "irq", "log", "runq", "timer", "p current_task:a", "p runqueues:1",
    "rd -p 1000000 16",
)  # fmt: skip
SLICE = {
    ("7.2.9", "5.10"),
    ("8.0.2", "6.1"),
    ("8.0.2", "newest"),
    ("8.0.6", "6.12"),
    ("9.0.2", "newest"),
}


def died_of(ran: Ran, message: str) -> bool:
    return ran.status == 1 and message in ran.text


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
        assert p2mfix(whole, plain).status == 0
    else:
        assert place.run(["crash", *files(whole)], plain).status == 0

    died = place.run(["crash", *files(broken)], [])
    assert died_of(died, 'type: "current_task (per_cpu)"'), died.text
    assert died_of(died, 'type: "tss_struct ist array"')

    opened = p2mfix(broken, to_files(COMMANDS, tmp_path / "repaired"))
    assert opened.status == 0, opened.text
    wanted = by_command(COMMANDS, tmp_path / "plain")
    assert not silent(COMMANDS, list(wanted.values()))
    assert "sysrq triggered crash" in wanted["sys"]
    assert "sysrq_handle_crash" in wanted["bt"]
    assert by_command(COMMANDS, tmp_path / "repaired") == wanted


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
