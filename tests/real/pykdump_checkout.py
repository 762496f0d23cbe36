# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up checkout of PyKdump: small programs, and an API with hooks and options as PyKdump's."""

from __future__ import annotations

from pathlib import Path

from .sessions import BIN, Crash

API = """\
import crash, sys

def enter():
    out = sys.stdout
    out.reconfigure(encoding="utf-8")
    assert not out.isatty() and out.fileno() >= 0 and out.encoding == "utf-8"
    sys.path.insert(0, "of the hook")
    if "--ofile" in sys.argv:
        at = sys.argv.index("--ofile")
        sys.stdout = open(sys.argv[at + 1], "w")
        del sys.argv[at:at + 2]
    if "--exit" in sys.argv:
        sys.exit(7)
    if "--wrong" in sys.argv:
        raise ValueError("wrong option")
    print("entered")

def leave():
    sys.path.remove("of the hook")
    print("left")
    sys.stdout.flush()

def __epythonOptions(argv):
    print("common options:", argv)

enter()
sys.enterepython, sys.exitepython = enter, leave
"""
INIT = """\
from crash import register_epython_prog as register
names = [name for name in ("tells", "bt", "later", "many")
         if register(name, name + " things", "[-x]", "\\n-x\\n    100% of %s\\n")]
print("registered:", *names)
"""
TELLS = """\
import os, sys
from pykdump.API import crash

def fail():
    raise ValueError("its own")

print(__name__, os.path.basename(__file__), sys.argv[1:], "leftover" in globals())
leftover = True
words = sys.argv[1:]
if "fail" in words:
    fail()
if words[:1] == ["exit"]:
    sys.exit(eval(words[1]))
"""
PROGRAMS = {
    "tells": TELLS,
    "bt": "",
    "later": """\
import crash, os, signal, sys
print(crash.get_epython_cmds())
print([crash.register_epython_prog("further", "further", "", "More help.") for i in range(2)])
crash.exec_epython_command("tells", "exit", "4")
crash.exec_epython_command("nosuch")
print("inner:", crash.exec_crash_command("tells in").split("\\n"))
print(os.path.basename(sys.argv[0]), sys.stdout is sys.__dict__.get("given", sys.stdout))
""",
    "many": "for i in range(10**6): print('line', i)\n",
    "further": "print('registered by a program')\n",
}
LEFTOVERS = """\
import builtins, signal, sys
print(len(sys.argv), "of the program" in sys.path, builtins.input(), end=" ")
print(signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM))
sys.path.append("of the program")
sys.stdout.write("shown\\n")
sys.stdout = sys.stderr = None
builtins.input = None
signal.signal(signal.SIGALRM, print)
signal.alarm(1000)
"""
ORDER = """\
import os, sys
print("one", end=" ")
sys.stdout.buffer.write(b"two \\xff ")
print("three")
sys.stdout.flush()
os.write(sys.stdout.fileno(), b"four\\n")
print("five")
"""
CHILD = """\
import os, sys
sys.stdout.flush()
child = os.fork()
if not child:
    sys.exit(9)
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def checkout(folder: Path) -> Path:
    """Make up a checkout of PyKdump."""
    for name in ("progs", "pykdump"):
        (folder / name).mkdir(parents=True)
    (folder / "pykdump/__init__.py").touch()
    (folder / "pykdump/API.py").write_text(API)
    for name, text in {"PyKdumpInit": INIT, **PROGRAMS}.items():
        (folder / f"progs/{name}.py").write_text(text)
    return folder


def set_up(crash: Crash, folder: Path) -> str:
    """Register a made-up checkout, as a user does; return what is printed."""
    ran = crash.run([BIN / "pykdump-ext", "setup", "--pykdump", checkout(folder)])
    assert ran.status == 0, ran.text
    return ran.text
