# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals, threads and crash's own error output, while Python is in the session."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.lab.dump import Dump

from .sessions import BIN, Crash, Terminal, minimal

# --------------------------------------------------------------------------
# crash's "set error"

SET_ERROR = (
    "set error", "set error redirect", "set error", "rd 0", "set error {0}/log", "set error",
    "set error {0}/log", "rd 0", "set error redirect", "set error default", "rd 0", "set error",
)  # fmt: skip


def test_set_error_from_python_works_as_at_the_prompt_and_lasts(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """The commands are typed at the prompt, then by turns there and in Python."""
    crash.write(
        "run.py",
        "import crash, sys\nprint(crash.exec_crash_command(' '.join(sys.argv[1:])), end='')\n",
    )
    printed = {}
    for how in ("typed", "mixed"):
        folder = crash.folder / how
        folder.mkdir()
        lines = []
        for number, command in enumerate(SET_ERROR):
            in_python = how == "mixed" and number != 2
            line = command.format(folder)
            # rd fails: its message is then the exception's
            lines.append(f"py run.py {line}" if in_python and "rd" not in command else line)
        ran = minimal(crash, untouched, host, *lines, "eval 16")
        assert ran.status == 0, ran.text
        text = ran.after("shared object loaded\n").replace(str(folder), ".")
        printed[how] = (text, (folder / "log").read_text())
    assert printed["mixed"] == printed["typed"]
    text, log = printed["typed"]
    assert re.findall("(?m)^error: (.*)$", text) == [
        "default", "redirect", "redirect", "./log", "./log", "./log", "redirect", "default",
        "default",
    ]  # fmt: skip
    assert log == "rd: no current user process\n"
    assert "hexadecimal: 10" in text


def test_a_file_that_a_redirected_error_went_to_is_closed_only_once(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "reset.py",
        "import crash\n"
        "print(crash.exec_crash_command('set error /nosuch/file'), end='')\n"
        "crash.exec_crash_command('set error default')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "set error redirect", "rd 0 > file", "set error default", "set error redirect",
        "rd 0 > file2", "py reset.py", "rd 0", "eval 16",
    )  # fmt: skip
    assert ran.status == 0
    assert ran.after("shared object loaded\n").count("rd: no current user process") == 1
    assert "set: invalid path: /nosuch/file\n" in ran.text
    assert (crash.folder / "file").read_text() == "rd: no current user process\n"
    assert "hexadecimal: 10" in ran.text


# --------------------------------------------------------------------------
# Signals that arrive on another thread

THREAD = (
    "import signal, threading, time\n"
    "def work():\n"
    "    time.sleep(0.7)\n"
    "    for _ in range(2):\n"
    "        signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
    "threading.Thread(target=work, daemon=True).start()\n"
)


@pytest.fixture
def terminal(crash: Crash, truncated: Dump, host: Path) -> Terminal:
    (crash.home / ".crashrc").write_text(f"set scroll off\nset emacs\nextend {host}\n")
    made = Terminal(
        crash, ["crash", "-s", "--minimal", str(truncated.vmlinux), str(truncated.vmcore)]
    )
    made.until()
    return made


def test_a_sigint_that_another_thread_gets_reaches_crashs_own(
    crash: Crash, terminal: Terminal
) -> None:
    crash.write("thread.py", THREAD)
    crash.write(
        "both.py",
        "import crash, thread\n"
        "try:\n"
        "    while True: crash.exec_crash_command('rd -p 1000000 100000')\n"
        "except KeyboardInterrupt:\n"
        "    print('was interrupted')\n",
    )
    terminal.line("py both.py", "was interrupted")
    terminal.until()
    terminal.line("py thread.py")
    terminal.child.sendline("rd -p 1000000 10000000")
    terminal.child.expect_exact("1000100:")
    terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")
    # While a full session starts, crash's thread blocks SIGINT: another one gets it
    crash.write("sleeps.py", "import threading, time\nthreading.Thread(target=time.sleep,"
                             " args=(600,), daemon=True).start()\n")  # fmt: skip
    terminal.line("py sleeps.py")
    terminal.line("extend p2mfix.py", "p2mfix.py: loaded")
    for _ in range(6):
        terminal.child.expect(pexpect.TIMEOUT, timeout=0.4)
        terminal.interrupt()
    terminal.until()
    if "minimal mode" in terminal.line("bt"):  # it was interrupted before it began
        terminal.line("p2m fix")
    assert "sysrq_handle_crash" in terminal.line("bt")
    terminal.child.sendline("quit")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_a_fault_of_another_thread_ends_the_process_with_that_signal(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "fault.py",
        "import crash, ctypes, threading\n"
        "crash.exec_gdb_command('print 1')\n"
        "threading.Thread(target=lambda: ctypes.string_at(8)).start()\n"
        "while True: crash.exec_gdb_command('print 1')\n",
    )
    ran = crash.run(
        ["crash", "-s", "--minimal", untouched.vmlinux, untouched.vmcore],
        [f"extend {host}", "py fault.py", "quit"],
        seconds=60,
    )
    assert ran.status == -11, ran.text


def test_only_crashs_own_thread_changes_its_list(crash: Crash, truncated: Dump, host: Path) -> None:
    crash.write(
        "undo.py",
        "import crash, threading\n"
        "from pykdump_ext.host import repair\n"
        "from pykdump_ext.host.session import opened_session\n"
        "rebuilt = opened_session().diagnosis.rebuilt\n"
        "def work(call):\n"
        "    try: call()\n"
        "    except crash.error as error: print('refused:', error)\n"
        "def threaded(call):\n"
        "    thread = threading.Thread(target=work, args=(call,))\n"
        "    thread.start(); thread.join()\n"
        "threaded(lambda: repair._patch(rebuilt))\n"
        "assert not repair.is_repaired()\n"
        "repair._patch(rebuilt)\n"
        "threaded(repair.unload)\n"
        "assert repair.is_repaired()\n",
    )
    ran = minimal(crash, truncated, host, "py undo.py", "eval 16")
    assert ran.text.count("refused: only crash's own thread can call crash") == 2
    assert "Error" not in ran.text
    assert ran.text.endswith("10000\n")


UNLUCKY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
int armed;
int sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	int (*next)(int, const struct sigaction *, struct sigaction *);

	*(void **)&next = dlsym(RTLD_NEXT, "sigaction");
	if (armed && sig == SIGINT && new && !--armed)
		raise(sig);
	return next(sig, new, old);
}
"""


def test_a_ctrl_c_at_a_change_of_its_handler_leaves_the_next_one_alive(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    """A library presses the key just before the C library's sigaction(), in a request to gdb.

    crash ignores a key before the first change; at the second it takes its own handler again,
    and at the third Python gets its handler.
    """
    (tmp_path / "unlucky.c").write_text(UNLUCKY)
    build = ["cc", "-shared", "-fPIC", "unlucky.c", "-o", "unlucky.so", "-ldl"]
    subprocess.run(build, cwd=tmp_path, check=True)
    crash.write(
        "unlucky.py",
        "import crash, ctypes, signal\n"
        "armed = ctypes.c_int.in_dll(ctypes.CDLL(None), 'armed')\n"
        "for number in 2, 2, 3, 3:\n"
        "    armed.value = number\n"
        "    try: crash.exec_gdb_command('print 1')\n"
        "    except KeyboardInterrupt:\n"
        "        print('pressed', armed.value, signal.pthread_sigmask(signal.SIG_BLOCK, []))\n",
    )
    ran = minimal(crash, untouched, host, "py unlucky.py", LD_PRELOAD=str(tmp_path / "unlucky.so"))
    assert ran.text.endswith("pressed 0 set()\n" * 4)


def test_a_ctrl_c_at_any_moment_of_a_call_is_one_keyboard_interrupt(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """Another process presses the key again and again, each time once Python waits for it."""
    crash.write(
        "pressed.py",
        "import crash, os, random, signal, time, warnings\n"
        "warnings.simplefilter('ignore')  # of Python 3.12, about fork()\n"
        "banner, init = crash.sym2addr('linux_banner'), crash.sym2addr('init_task')\n"
        "read, write = os.pipe()\n"
        "this = os.getpid()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    os.close(write)\n"
        "    while os.read(read, 1):\n"
        "        time.sleep(random.random() / 2000)\n"
        "        os.kill(this, signal.SIGINT)\n"
        "    os._exit(0)\n"
        "calls = {'read': lambda: crash.readmem(banner, 8), 'near': lambda: crash.addr2sym(init),\n"
        "         'many': lambda: [*crash.readmem_many([banner] * 100, 8)]}\n"
        "def same(): assert call() == wanted\n"
        "for name, call in calls.items():\n"
        "    wanted, number = call(), 0\n"
        "    for _ in range(200):\n"
        "        try:\n"
        "            os.write(write, b'.')\n"
        "            while True: same()\n"
        "        except KeyboardInterrupt: number += 1\n"
        "    print(name, number, call() == wanted, signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "os.close(write)\n"
        "print('child', os.waitpid(child, 0)[1])\n",
    )
    crash.write(
        "inner.py",
        "import os, signal\n"
        "try: os.kill(os.getpid(), signal.SIGINT); print('not pressed')\n"
        "except KeyboardInterrupt: print('inner')\n",
    )
    crash.write(
        "outer.py",
        "import crash, os, signal\n"
        "print(crash.exec_crash_command('py inner.py'), end='')\n"
        "try: os.kill(os.getpid(), signal.SIGINT); print('not pressed')\n"
        "except KeyboardInterrupt: print('outer')\n",
    )
    ran = minimal(crash, untouched, host, "py pressed.py", "py outer.py", "eval 16")
    assert ran.after("shared object loaded\n").splitlines()[:6] == [
        *(f"{name} 200 True set()" for name in ("read", "near", "many")),
        "child 0", "inner", "outer",
    ]  # fmt: skip
    assert "hexadecimal: 10" in ran.text


# --------------------------------------------------------------------------
# Ctrl-C while p2mfix starts a session


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("apropos word", 0.3), ("starting the full session", 0.0), ("starting the full session", 0.5)],
)
def test_ctrl_c_while_p2mfix_starts_a_session_ends_it_as_it_ends_crash(
    crash: Crash, truncated: Dump, after: str, seconds: float
) -> None:
    started = Terminal(crash, [str(BIN / "p2mfix"), str(truncated.vmlinux), str(truncated.vmcore)])
    started.until(after)
    started.child.expect(pexpect.TIMEOUT, timeout=seconds or 0.01)
    for _ in range(60):  # before its first command crash ignores SIGINT now and then
        started.interrupt()
        if started.child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=0.5) == 0:
            break
    started.child.close()
    assert started.child.exitstatus == 1
    assert "stays minimal" not in started.child.before
    assert "Traceback" not in started.child.before
    assert not re.search(r"STATE:.*", started.child.before), "it was not ended: it started"


# --------------------------------------------------------------------------
# The preloaded list

STAND_IN = """
#include <stdio.h>
#include "xen_kdump.h"
struct xen_kdump_data data = { .cr3 = CR3 };
struct xen_kdump_data *get_xen_kdump_data(void) { return &data; }
int main(void)
{
	printf("%lx %d %d\\n", data.flags, data.p2m_frames, data.page != NULL);
	return 0;
}
"""


@pytest.mark.parametrize(("cr3", "written"), [("0", "1 512 1"), ("7", "0 0 0")])
def test_the_preload_library_writes_only_where_nothing_is(
    tmp_path: Path, host: Path, cr3: str, written: str
) -> None:
    """A program stands in for a crash that keeps something else in that place."""
    launch = host.parents[1] / "launch"
    (tmp_path / "crash.c").write_text(STAND_IN)
    headers = Path(__file__).parents[2] / "pykdump_ext/launch"
    subprocess.run(
        ["cc", f"-I{headers}", f"-DCR3={cr3}", "-rdynamic", "crash.c", "-o", "crash"],
        cwd=tmp_path,
        check=True,
    )
    (tmp_path / "list").write_bytes(bytes(range(8)) * 512)
    ran = subprocess.run(
        ["sh", "-c", f"exec 9<list; LD_PRELOAD={launch}/p2m_preload.so PYKDUMP_EXT_P2M=9 ./crash"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"{written}\n"
    assert ("other data where its list belongs" in ran.stderr) == (cr3 == "7")
