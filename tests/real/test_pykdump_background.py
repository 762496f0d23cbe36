# SPDX-License-Identifier: GPL-3.0-or-later
"""exec_crash_command_bg2(): commands of crash that stream from children, and end in time."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.lab.dump import Dump
from tests.lab.matrix import CELLS
from tests.lab.matrix import untouched as untouched_dump
from tests.lab.packages import Missing

from .children import HELPERS, LOADED, full, has_ended, is_running
from .places import Place
from .sessions import BIN, Crash, Terminal, minimal

# --------------------------------------------------------------------------
# What it prints

MADE = "int twice(int n) { return 2 * n; }\n"
SAME = """
from helpers import *
MINIMAL = ['eval 16', 'sym linux_banner', 'rd linux_banner 20', 'rd 0', 'log -Z', 'help rd',
           'py -c "print(1 + 1)"', 'py -c "1 / 0"']
FULL = ['sys', 'bt', 'struct list_head', 'p jiffies', 'p nosuch', 'p2m status']
for command in MINIMAL if crash.session().minimal else FULL:
    print(repr(command), background(command) == foreground(command), foreground(command)[1])
print(background('quit'), background('py -c "raise SystemExit(3)"'))
print(background('nosuch word')[1], background(''))
print(background('gdb add-symbol-file made.o 0x10000')[0].count('Reading symbols from'))
say_left()
"""


def test_it_prints_what_the_foreground_prints_and_ends_as_the_command_does(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("helpers.py", HELPERS)
    crash.write("same.py", SAME)
    ran = minimal(crash, untouched, host, "py same.py", "eval 16")
    assert ran.after(LOADED).splitlines()[:12] == [
        *(f"{command!r} True {status}" for command, status in {
            "eval 16": 0, "sym linux_banner": 0, "rd linux_banner 20": 0, "rd 0": 1, "log -Z": 1,
            "help rd": 0, 'py -c "print(1 + 1)"': 0, 'py -c "1 / 0"': 1,
        }.items()),
        "('', 0) ('py: exit status 3\\n', 1)",
        "0 ('', 0)",
        "0",
        "left [] True",
    ]  # fmt: skip
    assert "hexadecimal: 10" in ran.text


TOGETHER = """
from helpers import *
COMMANDS = ['bt -a', 'ps', 'struct task_struct', 'kmem -i', 'foreach bt', 'struct net_device']
text = crash.sym2addr('_text')
def read():  # no page that is read as a whole is kept
    return [hash(page) for page in crash.readmem_many(range(text, text + (1500 << 12), 4096), 4096)]
def is_running(pid):
    return not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
whole = read()
started = [crash.exec_crash_command_bg2(command) for command in COMMANDS]
reads = []
while any(is_running(pid) for _, pid in started): reads.append(read() == whole)
got = [output(*one) for one in started]
wanted = [foreground(command) for command in COMMANDS]
print('parent', len(set(whole)) > 100 and len(reads) > 3, all(reads))
print('children', [a for a, b, c in zip(COMMANDS, got, wanted) if b != c], min(map(len, got)))
say_left()
"""


def test_children_and_their_parent_read_the_same_files_at_once(
    crash: Crash, truncated: Dump
) -> None:
    """Each has a position of its own in dump and namelist, and crash's temporary file too."""
    crash.write("helpers.py", HELPERS)
    crash.write("together.py", TOGETHER)
    crash.write("same.py", SAME)
    (crash.folder / "made.c").write_text(MADE)
    subprocess.run(["cc", "-g", "-c", "made.c"], cwd=crash.folder, check=True)
    wanted = "parent True True\nchildren [] 2\nleft [] True\n"
    words = (BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "-s")
    repaired = crash.run(words, ["py together.py > out", "py same.py > same", "quit"])
    assert repaired.status == 0
    assert (crash.folder / "out").read_text() == wanted
    assert (crash.folder / "same").read_text().splitlines() == [
        *(f"{command!r} True {int(command == 'p nosuch')}" for command in
          ("sys", "bt", "struct list_head", "p jiffies", "p nosuch", "p2m status")),
        "('', 0) ('py: exit status 3\\n', 1)",
        "0 ('', 0)",
        "1",
        "left [] True",
    ]  # fmt: skip


STREAMS = """
from helpers import *
fd, pid = crash.exec_crash_command_bg2('py waits.py')
print(line(fd), select.select([fd], [], [], 0)[0], os.waitpid(pid, os.WNOHANG))
open('go', 'w').close()
print(output(fd, pid))
fd, pid = crash.exec_crash_command_bg2(ENDLESS)
print(line(fd), os.waitpid(pid, os.WNOHANG))
os.kill(pid, 15)
print(output(fd, pid)[1])
fd, pid = crash.exec_crash_command_bg2('py waits_for_ever.py')
print(select.select([fd], [], [], 0.1)[0])
os.close(fd), os.kill(pid, 9)
print(os.waitstatus_to_exitcode(os.wait()[1]))
fd, pid = crash.exec_crash_command_bg2(ENDLESS)
os.close(fd)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say_left()
"""


def test_the_first_line_comes_while_the_command_goes_on(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """Programs wait with a time limit, and end the child by any signal, or by not reading it."""
    crash.write("helpers.py", HELPERS)
    crash.write(
        "waits.py",
        "import os, time\n"
        "print('first')\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "print('last')\n",
    )
    crash.write("waits_for_ever.py", "import time\nwhile True: time.sleep(60)\n")
    crash.write("streams.py", STREAMS)
    ran = full(crash, untouched, host, "py streams.py")
    assert ran.after(LOADED).splitlines() == [
        "first [] (0, 0)", "('last\\n', 0)", "hexadecimal: 10 (0, 0)", "-15", "[]",
        "-9", "-13", "left [] True",
    ]  # fmt: skip


# --------------------------------------------------------------------------
# What it leaves: nothing

LEFT = """
from helpers import *
import sys
for number in range(50):
    if number % 2: background('eval 1')
    else: crash.exec_crash_command_bg2(ENDLESS if number % 4 else 'eval 2')
fd, pid = crash.exec_crash_command_bg2('eval 3')
os.close(fd)
assert os.open('/dev/null', os.O_RDONLY) == fd  # another file has the number now
sys.other = fd
sys.kept = os.fdopen(crash.exec_crash_command_bg2('eval 16')[0])
print(len(children()), crash.exec_crash_command('py inner.py'), len(children()))
"""
THEN = """
from helpers import *
import sys
assert os.fstat(sys.other).st_rdev == os.stat('/dev/null').st_rdev
os.close(sys.other)
print(sys.kept.readline().strip())
sys.kept.close()
say_left()
"""
INNER = """
from helpers import *
crash.exec_crash_command_bg2(ENDLESS)
print(len(children()), end='')
"""


def test_a_command_leaves_no_child_no_zombie_and_no_descriptor(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    for name, text in (
        ("helpers", HELPERS), ("left", LEFT), ("then", THEN), ("inner", INNER),
        ("open", "import sys, helpers"), ("gone", "from helpers import *\nsay_left()"),
        ("prints", "from helpers import *\nfd, pid = crash.exec_crash_command_bg2(ENDLESS)\n"
                   "print(pid)\nwhile True: print(os.read(fd, 4096))"),
    ):  # fmt: skip
        crash.write(f"{name}.py", text)
    ran = full(
        crash, untouched, host, "py open.py", "py left.py", "py then.py", "py prints.py | head -1",
        "py gone.py", "eval 16",
    )  # fmt: skip
    lines = ran.after(LOADED).splitlines()
    assert lines[:3] == ["27 28 27", "hexadecimal: 10", "left [] True"], lines
    assert not is_running(int(lines[3]))
    assert lines[4] == "left [] True"
    assert lines[5] == "hexadecimal: 10  "


CAUGHT = """
from helpers import *
fd, pid = crash.exec_crash_command_bg2(ENDLESS)
try:
    print('pid', pid, os.read(fd, 4096)[:0])
    while True: os.read(fd, 4096)
except KeyboardInterrupt: print('caught', output(fd, pid)[1])
"""


def test_ctrl_c_ends_it(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("helpers.py", HELPERS)
    crash.write("caught.py", CAUGHT)
    crash.write("waits.py", CAUGHT.partition("except")[0] + "finally: print('end')\n")
    words = ["crash", "-s", str(untouched.vmlinux), str(untouched.vmcore)]
    terminal = Terminal(crash, words)
    terminal.until()
    terminal.line(f"extend {host}")
    for program, wanted in (("caught", "caught -2"), ("waits", "end")):
        pid = int(terminal.line(f"py {program}.py", "b''").split()[1])
        assert is_running(pid)
        terminal.interrupt()
        assert wanted in terminal.until()
        assert not is_running(pid)
    assert "hexadecimal: 10" in terminal.line("eval 16")
    terminal.child.sendline("quit")
    terminal.child.wait()


def test_it_ends_with_crash_however_that_ends(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("helpers.py", HELPERS)
    crash.write(
        "dies.py",
        "from helpers import *\n"
        "fd, pid = crash.exec_crash_command_bg2(ENDLESS)\n"
        "os.read(fd, 1)\n"
        "print(pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n",
    )
    crash.write(
        "ends.py",
        "from helpers import *\n"
        "import atexit\n"
        "atexit.register(lambda: print(crash.exec_crash_command_bg2(ENDLESS)[1]))\n",
    )
    died = full(crash, untouched, host, "py dies.py > pid")
    assert died.status == -signal.SIGKILL
    assert has_ended(int((crash.folder / "pid").read_text()))
    ended = full(crash, untouched, host, "py ends.py")
    assert ended.status == 0
    assert has_ended(int(ended.after(LOADED)))


# --------------------------------------------------------------------------
# Errors, and the machine beside

FAILS = """
from helpers import *
import resource, subprocess, threading
def say(*words):
    try: print(background(*words))
    except crash.error as error: print(error)
say('eval ' + 1495 * '1')
thread = threading.Thread(target=say, args=('eval 16',))
thread.start(), thread.join()
fd = os.open('/dev/null', os.O_RDONLY)
os.close(fd)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, limits[1]))
say('eval 16')
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
sleeper = subprocess.Popen(['sleep', '60'])
with open(f'/proc/{sleeper.pid}/mem', 'rb'):  # nobody can open it again once that is gone
    sleeper.kill(), sleeper.wait()
    say('eval 16')
say_left()
"""


def test_what_cannot_be_is_an_error(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("helpers.py", HELPERS)
    crash.write("fails.py", FAILS)
    ran = minimal(crash, untouched, host, "py fails.py")
    lines = ran.after(LOADED).splitlines()
    assert lines[:3] == [
        "a command of 1500 bytes is too long: crash takes 1499 at most",
        "only crash's own thread can call crash, not a thread that Python started",
        "a command cannot run in the background: pipe(): Too many open files",
    ]
    assert lines[3].startswith("('py: a child cannot have its own position in /proc/")
    assert lines[3].endswith("/mem: No such process\\n', 1)")
    assert lines[4:] == ["left [] True"]


@pytest.mark.thorough
@pytest.mark.parametrize("version", ["7.2.9", "8.0.6", "9.0.2"])
def test_in_other_crashes(version: str, tmp_path: Path) -> None:
    """In each crash with a gdb of its own."""
    kernel = "5.10" if version == "7.2.9" else "6.1"
    (cell,) = (c for c in CELLS if (c.crash, c.kernel) == (version, kernel))
    try:
        place, dump = Place(cell, tmp_path), untouched_dump(kernel)
    except Missing as error:
        pytest.skip(str(error))
    for name, text in (
        ("helpers", HELPERS), ("together", TOGETHER), ("left", LEFT), ("inner", INNER),
        ("folder", f"import os\nos.chdir({str(tmp_path)!r})\n"),
        ("add", "from helpers import *\nprint(background('gdb add-symbol-file made.o 0')[1])\n"),
    ):  # fmt: skip
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "made.c").write_text(MADE)
    subprocess.run(["cc", "-g", "-c", "made.c"], cwd=tmp_path, check=True)
    names = [f"py {tmp_path}/{name}.py" for name in ("folder", "together", "add", "left")]
    ran = place.run([place.p2mfix, dump.vmlinux, dump.vmcore, "-s"], names)
    wanted = "parent True True\nchildren [] 2\nleft [] True\n0\n27 28 27\n"
    assert ran.text.endswith(wanted), ran.text
