# SPDX-License-Identifier: GPL-3.0-or-later
"""Full sessions that began with failing reads: ``p2m fix`` shows what a whole list shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from pykdump_ext.p2m.diagnosis import Diagnosis
from tests.lab.broken import copy_of, diagnosis, lose
from tests.lab.dump import Dump
from tests.lab.matrix import Cell
from tests.lab.matrix import untouched as untouched_of
from tests.lab.packages import Missing

from .outputs import SEARCH, by_command, digest, silent, to_files
from .places import Place
from .sessions import Crash, Ran, Terminal

COMMANDS = (
    "sys", "bt", "bt -a", "foreach bt", "ps", "ps -t", "ps -m", "mod", "kmem -i", "kmem -s",
    "kmem -v", "kmem -z", "vm", "vm -m", "files", "foreach files", "mount", "net", "dev", "irq",
    "log", "runq", "timer", "p current_task:a", "p runqueues:1", "set", "sym -m xenfs",
    "struct rq.nr_running,cpu runqueues:a", SEARCH,
)  # fmt: skip
AGAIN = ("bt -a", "ps", "mod", "kmem -s", "kmem -i")
CELLS = (Cell("8.0.2", "bookworm", "5.10"), Cell("8.0.6", "trixie", "6.1"))


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


def everything(found: Diagnosis, printed: dict[str, str]) -> list[int]:
    return [pfn for lost in (current_tasks, tasks, modules, slabs) for pfn in lost(found, printed)]


class Started:
    """A cell's crash, and what it prints on the untouched dump."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.place = Place(cell, folder, index=True)
        self.whole = untouched_of(cell.kernel)
        self.found = diagnosis(self.whole)
        found = self.place.run([self.place.p2mfix.with_name("pykdump-ext"), "host"], [])
        self.host = found.text.strip()
        plain = to_files(COMMANDS, folder / "plain")
        assert self.run(self.whole.vmcore, plain).status == 0
        self.wanted = by_command(COMMANDS, folder / "plain")
        assert not silent(COMMANDS, list(self.wanted.values()))

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
        (CELLS[0], slabs, "", ["kmem -s"]),
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
    broken = by_command(COMMANDS, folder / "broken")
    assert all(broken[command] != crash.wanted[command] for command in differ)
    assert by_command(COMMANDS, folder / "repaired") == crash.wanted
    assert by_command(AGAIN, folder / "again") == {c: crash.wanted[c] for c in AGAIN}
    assert digest(vmcore) == before, "the dump was written"
    vmcore.unlink()


# --------------------------------------------------------------------------
# What the new crash has of the one before


@pytest.fixture(scope="module")
def damaged(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """A dump on which crash starts without the modules."""
    found = diagnosis(untouched)
    folder = tmp_path_factory.mktemp("damaged")
    vmcore = copy_of(untouched, folder)
    lose(untouched, vmcore, [pfn_of(found, found.kernel.value("modules") - 8)])
    return Dump(untouched.vmlinux, vmcore)


COUNT = "mod | grep -c virtio"  # 0 of them are there before, 6 after


def test_the_rest_of_a_pipe_is_run_by_the_new_crash(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    ran = crash(
        damaged,
        [
            COUNT,
            f"extend {host}",
            "extend p2mfix.py | cat",
            "p2m",
            COUNT,
            "py",
            "print(6 * 7)",
            "exit()",
        ],
        "-s",
    )
    assert ran.status == 0, ran.text
    assert re.findall(r"(?m)^(0|6|42)$", ran.text) == ["0", "6", "42"]
    assert "crash reads: by the rebuilt list" in ran.text


def test_files_of_python_are_written_before_the_new_crash_starts(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    crash.write(
        "keeps.py",
        "import atexit, sys\n"
        "sys.keep = open('written', 'w')\n"
        "sys.keep.write('all of it')\n"
        "atexit.register(print, 'at the end')\n",
    )
    lines = [f"extend {host}", "py keeps.py", "extend p2mfix.py", "!cat written", COUNT]
    ran = crash(damaged, lines, "-s")
    assert ran.status == 0, ran.text
    assert re.findall(r"(?m)^(6|all of it.*|at the end)$", ran.text)[:2] == [
        "at the end",
        "all of it6",
    ]


def test_a_pipe_that_is_written_to_later_is_read_to_its_end(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    lines = f"echo 'extend {host}'; echo 'extend p2mfix.py'; sleep 12; echo '{COUNT}'; echo quit"
    ran = crash.run(
        ["sh", "-c", f"({lines}) | crash -s {damaged.vmlinux} {damaged.vmcore}; sleep 1"]
    )
    assert ran.text.endswith("\n6\n"), ran.text


def test_the_rest_of_files_is_run_by_the_new_crash(crash: Crash, damaged: Dump, host: Path) -> None:
    (crash.home / ".crashrc").write_text(f"extend {host}\n")
    (crash.folder / "first").write_text(f"!echo before\nextend p2mfix.py\n{COUNT}\n")
    (crash.folder / "typed").write_text(f"{COUNT}\nextend p2mfix.py\n{COUNT}\n")
    both = crash(damaged, ["!sleep 1; echo typed"], "-s", "-i", "first")
    assert re.findall(r"(?m)^(before|0|6|typed)$", both.text) == ["before", "6", "typed"]
    run = crash(damaged, ["< typed", "!sleep 1; echo typed"], "-s")
    assert re.findall(r"(?m)^(0|6|typed)$", run.text) == ["0", "6", "typed"]


def test_a_crashrc_that_repairs_is_run_once_more_and_no_more(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    (crash.home / ".crashrc").write_text(f"extend {host}\nextend p2mfix.py\n")
    ran = crash(damaged, [COUNT, "p2m"])
    assert ran.text.count("starting it anew") == 1
    assert ran.text.count("leaves were lost") == 1
    assert "already loaded" not in ran.text
    assert "crash reads: by the rebuilt list" in ran.text


def test_a_program_that_runs_fix_is_not_ended_by_it(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    (crash.folder / "program.py").write_text(
        "import crash\nprint(crash.exec_crash_command('extend p2mfix.py'))\nprint('went on')\n"
    )
    ran = crash(damaged, [f"extend {host}", "py program.py", "p2m", COUNT])
    assert ran.status == 0, ran.text
    assert "a program that runs in crash cannot start crash anew" in ran.text
    assert "went on" in ran.text
    assert "crash reads: by the rebuilt list" in ran.text
    assert "\n0\n" in ran.text


def test_undo_leaves_what_the_new_crash_has_read(crash: Crash, damaged: Dump, host: Path) -> None:
    commands = [f"extend {host}", "extend p2mfix.py", "p2m undo", "p2m", COUNT, "p2m fix", "p2m"]
    ran = crash(damaged, commands)
    assert ran.status == 0, ran.text
    assert "it keeps what it has read by the rebuilt one" in ran.text
    reads = re.findall("crash reads: by the (.*)", ran.text)
    assert reads == ["dump's list", "rebuilt list"]
    assert ran.text.count("starting it anew") == 1
    assert "\n6\n" in ran.text


def test_a_healthy_dump_is_not_started_anew(crash: Crash, untouched: Dump, host: Path) -> None:
    ran = crash(untouched, [f"extend {host}", "extend p2mfix.py", "p2m fix"])
    assert ran.text.count("nothing to repair") == 2
    assert "anew" not in ran.text


def test_a_terminal_keeps_its_history_and_extensions(
    crash: Crash, damaged: Dump, host: Path
) -> None:
    (crash.folder / "hello.py").write_text(
        "from pykdump_ext.host import command\n"
        "@command('hello', help='greets')\ndef hello(words):\n    print('good day')\n"
    )
    (crash.home / ".crashrc").write_text("set scroll off\nset emacs\n")
    terminal = Terminal(crash, ["crash", "-s", str(damaged.vmlinux), str(damaged.vmcore)])
    terminal.until()
    terminal.line(f"extend {host}")
    terminal.line("extend hello.py")
    assert "good day" in terminal.line("hello")
    terminal.line("p2m", "command not found")
    terminal.until()
    shown = terminal.line("extend p2mfix.py")
    assert "hello.py: loaded" in shown
    assert "6" in terminal.line(COUNT)
    terminal.child.send("\x10\x10\x10\x10\r")  # up to: hello
    terminal.until("good day")
    terminal.until()
    assert not list(Path("/tmp").glob("crash-history*"))
    terminal.child.sendline("quit")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0
