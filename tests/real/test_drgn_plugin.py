# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn's plugin: plain drgn, and programs on it, on the dump of a Xen host and on other dumps."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.pid import for_each_task

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.native.dump import empty_dump
from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO, XEN_NOTE_OWNER
from tests.lab.dump import Dump
from tests.unit.made_up.core import PT_NOTE, Segment, core_bytes, note

from .sessions import BIN

DRGN = BIN / "drgn"
TASKS = "print(*sorted(t.pid.value_() for t in for_each_task()))"
STACK = "print(prog.crashed_thread().stack_trace())"
OWN = "import drgn, os; drgn.Program().set_pid(os.getpid())"
IMPORTED = "import sys; print(*sorted(name for name in sys.modules if 'pykdump_ext' in name))"


def run(
    *words: str | Path, cwd: str | Path = "/", stdin: str | None = None, **variables: str
) -> tuple[int, str, str]:
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **variables},
    )
    return done.returncode, done.stdout, done.stderr


def says(prog: drgn.Program) -> str:
    """Return what ``TASKS`` and ``STACK`` print where drgn reads dom0."""
    pids = sorted(task.pid.value_() for task in for_each_task(prog))
    return f"{' '.join(map(str, pids))}\n{prog.crashed_thread().stack_trace()}\n"


def test_drgn_finds_the_plugin_by_its_entry_point() -> None:
    found = {e.name: e for e in distribution("pykdump-ext").entry_points}
    assert found["pykdump_ext"].group == "drgn.plugins"
    shown = run(sys.executable, "-c", f"{OWN}; {IMPORTED}")
    # of a live program it imports no more than itself
    assert shown == (0, "pykdump_ext pykdump_ext.drgn_plugin pykdump_ext.errors\n", "")


def test_plain_drgn_has_the_tasks_and_the_stack_of_the_panic(
    truncated: Dump, prog: drgn.Program
) -> None:
    wanted = says(prog)
    assert "sysrq_handle_crash" in wanted
    options = ("-q", "-s", truncated.vmlinux, "-e", f"{TASKS}; {STACK}")
    assert run(DRGN, "-c", truncated.vmcore, *options) == (0, wanted, "")


def test_the_words_of_the_command_line_stay(truncated: Dump, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nprint(sys.argv[1:], prog.core_dump_path, prog['init_task'].pid.value_())\n"
    )
    link = tmp_path / "my vmcore"
    link.symlink_to(truncated.vmcore)
    words = ("--symbols=" + str(truncated.vmlinux), "-q", script, "-c", truncated.vmcore)
    opened = f"/memfd:pykdump_ext:{truncated.vmcore} (deleted)"
    wanted = (0, f"['-c', '{truncated.vmcore}'] {opened} 0\n", "")
    assert run(DRGN, "--core=my vmcore", *words, cwd=tmp_path) == wanted
    # what Python is started with, and input
    more = (sys.executable, "-X", "utf8", DRGN, "-cmy vmcore", "-q", "-s", truncated.vmlinux)
    code = "import os, sys; print(sys.flags.utf8_mode, [n for n in os.environ if 'PYKDUMP' in n])\n"
    assert run(*more, cwd=tmp_path, stdin=code) == (0, "1 []\n", "")


def corelens_in(folder: Path) -> tuple[str, ...]:
    """Return the words that start a program that opens a dump as corelens of drgn-tools does.

    drgn-tools is on no index of packages.
    """
    (folder / "drgn_tools").mkdir()
    (folder / "drgn_tools/__init__.py").touch()
    (folder / "drgn_tools/debuginfo.py").write_text(
        "from types import SimpleNamespace\n"
        "def get_debuginfo_config():\n"
        "    return SimpleNamespace(repo_paths=['none/{bits}', 'kept/{bits}/{uname}'])\n"
        "class KernelVersion:\n"
        "    def parse(release):\n"
        "        names = {'bits': '64', 'uname': release}\n"
        "        return SimpleNamespace(format_params=lambda: names)\n"
    )
    (folder / "drgn_tools/corelens.py").write_text(
        "import sys, drgn, drgn_tools.debuginfo\n"
        "def _load_prog_and_debuginfo(vmcore):\n"
        "    prog = drgn.Program()\n"
        "    prog.set_core_dump(vmcore)\n"
        "    return prog\n"
        "prog = _load_prog_and_debuginfo(sys.argv[1])\n"
        "print(prog['init_task'].comm.string_().decode())\n"
    )
    return sys.executable, "-m", "drgn_tools.corelens"


def test_drgn_crash_and_corelens_open_it_too(truncated: Dump, tmp_path: Path) -> None:
    files = (truncated.vmlinux, truncated.vmcore)
    # the new prompt of Python 3.13, which drgn-crash uses, ends on a terminal that it cannot clear
    status, text, _ = run(BIN / "drgn-crash", *files, stdin="sys\n", PYTHON_BASIC_REPL="1")
    assert status == 0 and 'PANIC: "Kernel panic - not syncing: sysrq triggered crash"' in text
    (tmp_path / "symbols").mkdir()
    (tmp_path / "symbols/vmlinux").symlink_to(truncated.vmlinux)
    shown = run(*corelens_in(tmp_path), truncated.vmcore, "-d", "symbols", cwd=tmp_path)
    assert shown == (0, "swapper/0\n", "")


def test_corelens_finds_the_vmlinux_where_drgn_tools_keeps_it(
    truncated: Dump, tmp_path: Path
) -> None:
    folder = tmp_path / "kept/64" / truncated.vmlinux.name.removeprefix("vmlinux-")
    folder.mkdir(parents=True)
    (folder / "vmlinux").symlink_to(truncated.vmlinux)
    shown = run(*corelens_in(tmp_path), truncated.vmcore, cwd=tmp_path)
    assert shown == (0, "swapper/0\n", "")


def test_a_script_that_opens_the_dump_is_told_what_to_do(truncated: Dump, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import drgn, sys\nprint('once')\nprog = drgn.Program()\n"
        "prog.set_core_dump(sys.argv[1])\nprint(prog.flags)\n"
    )
    status, text, error = run(sys.executable, script, truncated.vmcore)
    assert (status, text) == (0, f"once\n{drgn.ProgramFlags(0)}\n")
    assert error == (
        f"{truncated.vmcore}: the dump of a Xen host, which drgn cannot read by itself: make the"
        " program with pykdump_ext.drgn.program(VMCORE, VMLINUX)\n"
    )


def test_what_cannot_be_opened_is_one_warning(tmp_path: Path) -> None:
    """And drgn goes on as without the plugin."""
    info = note(XEN_NOTE_OWNER.encode(), XEN_ELFNOTE_CRASH_INFO, bytes(80))
    path = tmp_path / "vmcore"
    path.write_bytes(core_bytes([Segment(0, info, PT_NOTE), Segment(0, bytes(4096))]))
    words = (DRGN, "-c", path, "-e", "1")
    status, text, error = run(*words)
    first, *rest = error.splitlines()
    assert first == (
        f"warning:drgn.pykdump_ext: {path}: not opened as the dump of a Xen host: no vmlinux was"
        " given; give that of the dump's kernel"
    )
    without = run(*words, DRGN_DISABLE_PLUGINS="pykdump_ext")
    assert (status, text, rest) == (without[0], without[1], without[2].splitlines())


@pytest.mark.parametrize("flag", [drgn.ProgramFlags.IS_LINUX_KERNEL, drgn.ProgramFlags(0)])
def test_other_dumps_are_opened_as_without_the_plugin(
    truncated: Dump, not_xen: Dump, tmp_path: Path, flag: drgn.ProgramFlags
) -> None:
    path = not_xen.vmcore  # drgn takes it for a process's
    if flag:
        opened = OpenedDump(open_dump([truncated.vmcore]), [Namelist(truncated.vmlinux)])
        path = tmp_path / "vmcore"
        path.write_bytes(empty_dump(opened.native))
    program = f"import drgn; p = drgn.Program(); p.set_core_dump({str(path)!r}); print(p.flags)"
    status, text, error = run(sys.executable, "-c", f"{program}; {IMPORTED}")
    shown, imported = text.splitlines()
    assert (status, shown, error) == (0, str(flag), "") and "pykdump_ext.xen.notes" in imported
    # nothing that takes time
    assert not any(name in imported for name in ("opened", "native", "p2m", ".drgn.", "linux."))
    # a fault in the plugin is one line
    broken = f"import sys; sys.modules['pykdump_ext.machine.elf'] = None; {program}"
    status, text, error = run(sys.executable, "-c", broken)
    assert (status, text) == (0, f"{flag}\n")
    assert error.count("\n") == 1 and f"{path}: not opened as the dump of a Xen host: " in error
