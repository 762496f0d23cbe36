# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn inside crash: ``drgn`` and ``dbt``, compared with drgn outside and with crash's ``bt``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.sched import cpu_curr

from pykdump_ext.drgn.prog import open_program
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.opened import OpenedDump
from tests.lab.dump import Dump
from tests.lab.guest import guest_dump
from tests.lab.matrix import MAIN, source

from .conftest import Once, Packed
from .sessions import BIN, ROOT, Crash, Ran, Terminal, minimal
from .traces import are_in_order

CPUS = range(4)
LOAD = "extend drgn.py"
COUNT = "drgn -e 'print(sum(1 for task in for_each_task(prog)))'"
SCRIPT = """\
import sys
from drgn.helpers.linux.pid import find_task

def fail():
    raise ValueError("its own")

print(__name__, sys.argv, find_task(prog, 1).comm.string_())
if len(sys.argv) > 1:
    fail()
sys.exit(4)
"""


def stacks(text: str) -> dict[int, str]:
    """Return the stacks that ``dbt`` printed, by the address of the task."""
    head = r"(?m)^PID: \d+ +TASK: ([0-9a-f]{16})  CPU: \d+ +COMMAND: \".*\"\n"
    before, *found = re.split(head, text)
    assert not before
    return {int(task, 16): stack.strip() for task, stack in zip(found[::2], found[1::2])}


def outside(prog: drgn.Program, tasks: Iterable[drgn.Object]) -> dict[int, str]:
    """Return the stacks that drgn itself shows, by the address of the task."""
    return {task.value_(): str(prog.stack_trace(task)) for task in tasks}


def running(prog: drgn.Program) -> dict[int, str]:
    return outside(prog, (cpu_curr(prog, cpu) for cpu in CPUS))


class Session:
    """A session, and what it printed, in part into files."""

    def __init__(self, folder: Path) -> None:
        self.crash = Crash(folder, folder)
        self.ran = Ran("", -1)

    def run(self, words: list[str | Path], commands: list[str]) -> None:
        self.ran = self.crash.run(words, [*commands, "quit"])
        assert self.ran.status == 0, self.ran.text

    def read(self, name: str) -> str:
        return (self.crash.folder / name).read_text()


@pytest.fixture(scope="module")
def module() -> Path:
    """The file of a module that is loaded in the dump."""
    image, *more = source(MAIN).files()
    (path,) = (found for folder in (image, *more) for found in folder.glob("**/xenfs.ko"))
    return path


@pytest.fixture(scope="module")
def repaired(
    truncated: Dump, prog: drgn.Program, module: Path, tmp_path_factory: pytest.TempPathFactory
) -> Session:
    """A full session that p2mfix has repaired."""
    session = Session(tmp_path_factory.mktemp("drgn"))
    session.crash.write("script.py", SCRIPT)
    pids = " ".join(str(task.pid.value_()) for task in for_each_task(prog))
    commands = [
        LOAD, f"mod -s xenfs {module}", "dbt > own", "bt > crashs", "dbt -a > all",
        "dbt -c 1 > first", f"dbt {pids} > tasks", f"dbt {find_task(prog, 1).value_():x} > init",
        "set 2 > set", "dbt > kthreadd", "help dbt > help", f"{COUNT} > count",
        "drgn -e 'print(id(prog), drgn.__file__)' > kept",
        "drgn -e 'print(id(prog), drgn.__file__)' >> kept",
        "drgn -e 'from pykdump_ext.host.drgn_program import _modules; print(_modules)' > modules",
        "dbt 1 99999", "dbt zz", "dbt -c 7", "dbt -x", "dbt -a | grep -c do_idle",
        "drgn -e 'for i in range(10**6): print(\"line\", i)' | head -2",
        "drgn -e '1 / 0'", "drgn -e 'x = ('", "drgn script.py", "drgn script.py a b",
        "drgn nosuch.py", "drgn -e", "drgn -x", "drgn -e 'import sys; print(sys.argv)' one two",
    ]  # fmt: skip
    session.run([BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "-s"], commands)
    return session


def test_stacks_in_a_repaired_session(
    repaired: Session, prog: drgn.Program, crash_says: dict[str, str]
) -> None:
    tasks = outside(prog, for_each_task(prog))
    assert len(tasks) > 60 and stacks(repaired.read("tasks")) == tasks
    assert stacks(repaired.read("all")) == running(prog)
    crashed = outside(prog, [prog.crashed_thread().object])
    assert stacks(repaired.read("own")) == stacks(repaired.read("init")) == crashed
    assert stacks(repaired.read("first")) == outside(prog, [cpu_curr(prog, 1)])
    assert stacks(repaired.read("kthreadd")) == outside(prog, [find_task(prog, 2)])
    assert repaired.read("count") == f"{len(tasks)}\n"

    (stack,) = crashed.values()
    found = re.findall(r"^#\d+ +(\w+)", stack, re.MULTILINE)
    shown = re.findall(r"^ *#\d+ \[\w+\] (\w+)[\w.]* at", crash_says["bt"], re.MULTILINE)
    assert re.findall(r"\] (\w+)[\w.]* at", repaired.read("crashs")) == shown
    shown = shown[: shown.index("do_syscall_64") + 1]  # behind it crash shows what is left over
    assert len(shown) > 6 and are_in_order(shown, found)
    assert len(found) > len(shown) and "(kernel/panic.c:" in stack  # inlined ones; source lines


def test_the_program_is_made_once(repaired: Session, module: Path) -> None:
    first, second = repaired.read("kept").splitlines()
    assert first == second and first.endswith(f" {drgn.__file__}")
    assert repaired.read("modules") == f"{ {str(module)} }\n"


def test_output_errors_and_the_ends_of_code(repaired: Session) -> None:
    assert "  dbt [-h] [-a] [-c CPU] [task ...]\n" in repaired.read("help")
    lines = [
        line for line in repaired.ran.after("drgn.py: loaded\n").splitlines()
        if "xenfs" not in line and "OBJECT FILE" not in line and "^" not in line
    ]  # fmt: skip
    start = next(i for i, line in enumerate(lines) if line.startswith("dbt: "))
    assert lines[0].startswith("PID: 1 ") and lines[start - 1].split()[0] == f"#{start - 2}"
    assert lines[start:] == [
        "dbt: 99999: neither the PID nor the address of a task",
        "dbt: zz: neither the PID nor the address of a task",
        "dbt: the kernel has no cpu 7",
        "dbt: unrecognized arguments: -x (see 'help dbt')",
        "3",
        "line 0",
        "line 1",
        "Traceback (most recent call last):",
        '  File "<drgn -e>", line 1, in <module>',
        "ZeroDivisionError: division by zero",
        '  File "<drgn -e>", line 1',
        "    x = (",
        "SyntaxError: '(' was never closed",
        "__main__ ['script.py'] b'init'",
        "drgn: exit status 4",
        "__main__ ['script.py', 'a', 'b'] b'init'",
        "Traceback (most recent call last):",
        '  File "script.py", line 9, in <module>',
        "    fail()",
        '  File "script.py", line 5, in fail',
        '    raise ValueError("its own")',
        "ValueError: its own",
        "drgn: nosuch.py: no such file; drgn -e CODE runs code",
        "drgn: no code follows -e (see 'help drgn')",
        "drgn: -x: not an option of this command (see 'help drgn')",
        "['-e', 'one', 'two']",
    ]


def test_a_full_session_that_p2mfix_did_not_start(
    untouched: Dump, packed: Packed, prog: drgn.Program, host: Path, tmp_path: Path
) -> None:
    """On a compressed dump, in which p2mfix repaired nothing."""
    session = Session(tmp_path)
    dump = packed(untouched, "-c")
    commands = [f"extend {host}", LOAD, "dbt > own", "dbt -a > all", f"{COUNT} > count"]
    session.run(["crash", "-s", dump.vmlinux, dump.vmcore], commands)
    assert stacks(session.read("own")) == outside(prog, [prog.crashed_thread().object])
    assert stacks(session.read("all")) == running(prog)
    assert session.read("count") == f"{sum(1 for _ in for_each_task(prog))}\n"


@pytest.fixture(scope="module")
def native(once: Once, truncated: Dump) -> Path:
    """A folder with dom0's dump as it is without Xen: one file, and two of a split dump."""

    def make(folder: Path) -> None:
        whole, vmlinux = folder / "whole", f"--vmlinux={truncated.vmlinux}"
        commands: tuple[list[str | Path], ...] = (
            [BIN / "p2mfix", "rewrite", "--linux", vmlinux, truncated.vmcore, whole],
            ["makedumpfile", "-c", "-d", "1", "--split", whole, folder / "one", folder / "two"],
        )
        for command in commands:
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd="/")

    return once("drgn-in-crash-native", make)


def test_a_dump_without_xen(
    native: Path, truncated: Dump, prog: drgn.Program, host: Path, tmp_path: Path
) -> None:
    """drgn opens one file by itself, and reads a split dump by the session, which has all of it."""
    tasks = f"{sum(1 for _ in for_each_task(prog))}\n"
    split = [native / "one", native / "two"]
    commands = [f"extend {host}", LOAD, "dbt > own", "dbt -a > all", f"{COUNT} > count"]
    for files, option in (([native / "whole"], ["--minimal"]), (split, [])):
        session = Session(tmp_path)
        session.run(["crash", "-s", *option, truncated.vmlinux, *files], commands)
        assert stacks(session.read("own")) == outside(prog, [prog.crashed_thread().object])
        assert stacks(session.read("all")) == running(prog)
        assert session.read("count") == tasks
    session.run(["crash", "-s", "--minimal", truncated.vmlinux, *split], [*commands[:2], "dbt"])
    assert session.ran.text.splitlines()[-1] == (
        "dbt: a minimal session cannot read all of a split dump: open it in a full one"
    )


def test_a_guest(tmp_path: Path) -> None:
    guest, session = guest_dump(), Session(tmp_path)
    paths = [str(guest.vmcore)]
    prog = open_program(OpenedDump(open_dump(paths), [Namelist(guest.vmlinux)], paths, 1))
    tasks = list(for_each_task(prog))
    current = cpu_curr(prog, 0).value_()
    commands = [LOAD, f"dbt {' '.join(str(t.pid.value_()) for t in tasks)} > tasks", "dbt -a > all"]
    session.run(
        [BIN / "p2mfix", "--domain", "1", guest.vmlinux, guest.vmcore, "-s"], commands
    )  # fmt: skip
    missing = "(no stack: registers for CPU 0 were not saved)"
    assert stacks(session.read("all")) == {current: missing}
    blocked = outside(prog, (task for task in tasks if task.value_() != current))
    shown = stacks(session.read("tasks"))
    assert len(blocked) > 40 and {task: shown[task] for task in blocked} == blocked


@pytest.fixture
def terminal(crash: Crash, truncated: Dump, host: Path) -> Iterator[Terminal]:
    (crash.home / ".crashrc").write_text(f"set scroll off\nset emacs\nextend {host}\n")
    made = Terminal(
        crash, ["crash", "-s", "--minimal", str(truncated.vmlinux), str(truncated.vmcore)]
    )
    made.until()
    made.line(LOAD)
    yield made
    made.kill()


def test_the_prompt(terminal: Terminal) -> None:
    terminal.line("drgn", "from drgn.helpers.linux import *")
    terminal.until(">>> ")
    assert terminal.line("prog['init_task'].comm", ">>> ") == '(char [16])"swapper/0"\n'
    terminal.child.send("prog.crashed_thr\t")
    terminal.child.expect_exact("prog.crashed_thread(")
    terminal.child.sendline(").tid")
    assert terminal.until(">>> ").strip() == ").tid\n1"
    assert "ZeroDivisionError: division by zero\n" in terminal.line("1 / 0", ">>> ")
    terminal.line("answer = input('which? ')", "which? ")
    terminal.line("forty-two", ">>> ")
    terminal.line("while True: pass", "... ")
    terminal.child.sendline("")
    terminal.interrupt()
    assert "KeyboardInterrupt\n" in terminal.until(">>> ")
    assert "drgn: exit status 3\n" in terminal.line("exit(3)")
    terminal.line("drgn", "from drgn.helpers.linux import *")
    terminal.until(">>> ")
    assert terminal.line("answer", ">>> ") == "'forty-two'\n"
    terminal.child.sendeof()
    terminal.until()
    # the names of crash's prompt are crash's, as before
    assert "ffffffff" in terminal.line("sym linux_banner")
    terminal.child.sendline('drgn -e \'while [print("be" + "gun")]: list(for_each_task(prog))\'')
    terminal.until("begun")
    terminal.interrupt()
    terminal.until()
    assert terminal.line(COUNT).strip().isdecimal()


def test_errors_of_sessions_are_sentences(
    crash: Crash, truncated: Dump, not_xen: Dump, host: Path
) -> None:
    ran = minimal(crash, not_xen, host, LOAD, "dbt", COUNT)
    sentence = f"drgn does not know {not_xen.vmcore} for the dump of a kernel: it has no vmcoreinfo"
    assert ran.text.splitlines()[-2:] == [f"dbt: {sentence}", f"drgn: {sentence}"]
    lacking = "py -c 'import sys; sys.modules[\"drgn\"] = None'"
    ran = minimal(crash, truncated, host, lacking, LOAD, "dbt", "sym linux_banner")
    assert f"extend: drgn is not installed: {BIN / 'pip'} install '{ROOT}[drgn]'\n" in ran.text
    assert ran.status == 0 and "crash: dbt: command not available" in ran.text
    assert "(D) linux_banner" in ran.text
