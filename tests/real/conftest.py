# SPDX-License-Identifier: GPL-3.0-or-later
"""Real crash on real dumps.

Tests run in several processes at once: what they share is made once, by whoever wants it
first, and nobody writes to it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.printk import get_dmesg

from pykdump_ext.drgn.prog import program
from pykdump_ext.machine.memory import PAGE_SIZE
from tests.lab import broken as lab_broken
from tests.lab import dump as lab_dump
from tests.lab import matrix as lab_matrix
from tests.lab.packages import Missing

from .outputs import printed, silent, to_files
from .packed import filtered
from .sessions import BIN, Crash, finds_tasks, misses_tasks

Once = Callable[[str, Callable[[Path], None]], Path]
Packed = Callable[[lab_dump.Dump, str], lab_dump.Dump]


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Crash(home, folder)


@pytest.fixture(scope="session")
def host() -> Path:
    """The shared object of the installed package."""
    shown = subprocess.run(
        [BIN / "pykdump-ext", "host"], stdout=subprocess.PIPE, text=True, check=True, cwd="/"
    ).stdout
    return Path(shown.strip())


@pytest.fixture(scope="session")
def untouched() -> lab_dump.Dump:
    """A real dump of a crashed dom0, as Xen and Linux left it."""
    lacking = lab_dump.tools()
    assert not lacking, f"make test installs what is lacking: {', '.join(lacking)}"
    assert shutil.which("crash"), "make test installs crash"
    try:
        return lab_matrix.untouched(lab_matrix.MAIN)
    except Missing as error:
        pytest.fail(f"the main path is never skipped: {error}")


@pytest.fixture(scope="session")
def truncated(untouched: lab_dump.Dump) -> lab_dump.Dump:
    """The dump of the report: its list ends at nr_pages."""
    return lab_broken.truncated(untouched)


@pytest.fixture(scope="session")
def not_xen(untouched: lab_dump.Dump) -> lab_dump.Dump:
    """The same without Xen's notes."""
    return lab_broken.not_xen(untouched)


@pytest.fixture(scope="session")
def addresses(untouched: lab_dump.Dump) -> tuple[str, ...]:
    """``vtop`` of one address of each kind, taken from the dump itself."""
    found = lab_broken.diagnosis(untouched)
    kernel = found.kernel
    remapped = kernel.page_offset() + 0x100000 * 4096  # pfn 100000 is remapped memory
    per_cpu = kernel.word(kernel.address("__per_cpu_offset") + 8, "__per_cpu_offset")
    vmalloc = kernel.value("xen_p2m_addr")
    module = kernel.value("modules") - 8  # a struct module, in its module's memory
    direct = kernel.page_offset() + 0x1000000
    text = kernel.address("linux_banner")
    per_cpu += kernel.address("current_task")
    return tuple(f"vtop {va:x}" for va in (direct, remapped, per_cpu, vmalloc, module, text))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A function that returns a folder of this test run, which the first who asks for it makes."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    shared = base / "once"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / f"{name}.made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (shared / f"{name}.made").touch()
        return folder

    return once


class Plain:
    """What plain crash prints: each list of commands is run once on a dump, for all tests.

    A crash that misses most tasks of the main kernel is made to find them, by ``extend p2mfix.py``
    on the untouched dump; ``test_tasks.py`` compares such a session with a newer crash.
    """

    def __init__(self, once: Once, host: Path) -> None:
        self.once = once
        self.host = host

    def __call__(
        self, name: str, dump: lab_dump.Dump, commands: Sequence[str], alone: bool = False
    ) -> list[str]:
        """Return what each command prints on a dump that nobody writes to.

        :param name: of the dump and this list of commands; any that no other has.
        :param alone: what crash prints by itself, even if it misses most tasks.
        """
        return printed(self.session(name, dump, commands, alone) / "printed")

    def session(
        self, name: str, dump: lab_dump.Dump, commands: Sequence[str], alone: bool = False
    ) -> Path:
        """Return a folder: ``printed`` has the commands' output by number, ``text`` the rest."""
        asked = "\n".join([str(dump.vmlinux), str(dump.vmcore), *commands])
        if alone and misses_tasks():
            name = f"{name}-alone"

        def make(folder: Path) -> None:
            first = [] if alone or not misses_tasks() else finds_tasks(self.host)
            ran = Crash(folder, folder)(dump, [*first, *to_files(commands, folder / "printed")])
            assert ran.status == 0, ran.text
            assert not silent(commands, printed(folder / "printed"))
            (folder / "text").write_text(ran.text)
            (folder / "asked").write_text(asked)

        folder = self.once(f"plain-{name}", make)
        assert (folder / "asked").read_text() == asked, f"{name} is the name of two things"
        return folder


@pytest.fixture(scope="session")
def plain(once: Once, host: Path) -> Plain:
    return Plain(once, host)


@pytest.fixture(scope="session")
def packed(once: Once) -> Packed:
    """A function that returns a dump of the lab as makedumpfile writes it with that option."""

    def packed(dump: lab_dump.Dump, option: str) -> lab_dump.Dump:
        def make(folder: Path) -> None:
            filtered(dump, folder, option)

        (vmcore,) = once(f"{dump.vmcore.parent.name}{option}", make).iterdir()
        return lab_dump.Dump(dump.vmlinux, vmcore)

    return packed


@pytest.fixture(scope="session")
def prog(truncated: lab_dump.Dump) -> drgn.Program:
    """drgn on the truncated dump."""
    return program(truncated.vmcore, truncated.vmlinux)


@pytest.fixture(scope="session")
def crash_says(untouched: lab_dump.Dump, prog: drgn.Program, plain: Plain) -> dict[str, str]:
    """What crash prints for drgn's tests on the untouched dump, by command.

    Of "rd" without the address: that of the stack of the panic.
    """
    stack = int(re.findall(r"RSP: 002b:(\w+)", get_dmesg(prog).decode())[-1], 16) & -PAGE_SIZE
    commands = (
        "ps", "mod", "log", "rq.nr_running,nr_switches,curr runqueues:a", "bt", "mount", "kmem -s",
        "list task_struct.tasks -s task_struct.pid,comm -h init_task", "files 1", "kmem -i",
        "set 1", f"rd -u {stack:x} 512", "kmem -p", "kmem -v", "kmem -V", "kmem -S task_struct",
        "ps -a", "ps -r 1", "irq", "dev -p", "sys",
    )  # fmt: skip
    keys = [re.sub(r"^(rd -u) .*", r"\1", command) for command in commands]
    return dict(zip(keys, plain("drgn", untouched, commands)))


def _reports(terminalreporter: pytest.TerminalReporter) -> Iterator[pytest.TestReport]:
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            if isinstance(report, pytest.TestReport):
                yield report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the damaged dumps ended, and the matrix as a table.

    Tests report both by ``record_property``, which reaches here from any process.
    """
    sessions: list[str] = []
    results: dict[tuple[str, str], str] = {}
    for report in _reports(terminalreporter):
        for name, value in report.user_properties:
            if name == "damaged":
                sessions.append(str(value))
            elif name == "cell":
                crash, kernel, result = str(value).split("|")
                results[crash, kernel] = result if report.passed else report.outcome
    if sessions:
        ended = [line for line in sessions if not line.endswith(": ")]
        terminalreporter.section("dumps damaged at random")
        terminalreporter.write_line(
            f"{len(sessions)} sessions; {len(ended)} that plain crash does not survive either"
        )
        for line in ended:
            terminalreporter.write_line(line)
    if results:
        kernels = sorted({kernel for _, kernel in results}, key=_version)
        terminalreporter.section("matrix")
        terminalreporter.write_line("".join(f"{name:<12}" for name in ("crash", *kernels)))
        for crash in sorted({crash for crash, _ in results}, key=_version):
            cells = [results.get((crash, kernel), "-") for kernel in kernels]
            terminalreporter.write_line("".join(f"{name:<12}" for name in (crash, *cells)))


def _version(name: str) -> list[int]:
    """Return what versions are sorted by; "newest" is the highest."""
    return [int(part) for part in name.split(".")] if name[:1].isdigit() else [1 << 30]
