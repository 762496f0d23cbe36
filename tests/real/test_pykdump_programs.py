# SPDX-License-Identifier: GPL-3.0-or-later
"""``epython``, and programs of a checkout of PyKdump as commands of crash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.dump import Dump

from .pykdump_checkout import CHILD, LEFTOVERS, ORDER, set_up
from .sessions import Crash, Ran, Terminal

KEYS = {
    "loop": """\
import sys
sys.exitepython = lambda: print("left")
print("be" "gun")
while True: pass
""",
    "ask": "import sys\nprint(sys.stdout.isatty(), input('which? ') * 2)\n",
    "late": """\
import signal, time
def late(number, frame):
    raise TimeoutError("late")
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.1)
time.sleep(600)
""",
}
# what PyKdump's --reload does
RELOADS = """\
import argparse, counted, importlib, os, sys
before = argparse.ArgumentParser
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if name.partition(".")[0] not in ("pykdump", "__main__") and file and os.path.isfile(file):
        importlib.reload(module)
print(counted.runs, argparse.ArgumentParser is before)
"""
LOADED = "/extensions/epython.py: loaded\n"
NO_NAMES = [
    f"py -c 'crash.register_epython_prog({name}, *\"bcd\")'"
    for name in ('"a b"', 'chr(27) + "x"', '""')
]
MARK = "py -c 'print(\"@@@@\")'"


class Session:
    """A session in which each command's output is known apart from the others'."""

    def __init__(self, crash: Crash, words: list[str | Path], commands: list[str]) -> None:
        lines = [line for command in commands for line in (MARK, command)]
        self.ran: Ran = crash.run(
            words, [*lines, MARK, "quit"], PYKDUMPPATH=str(crash.folder / "path")
        )
        assert self.ran.status == 0, self.ran.text
        # crash 8.0.6 prints the commands, too
        marks = re.compile(rf"(?:crash> {re.escape(MARK)}\n)?@@@@\n")
        self.start, *shown, _ = marks.split(self.ran.text)
        # Python 3.13 marks the call in a traceback's line
        self.shown = [re.sub(r"^crash> .*\n|(?m:^ +~*\^+\n)", "", text) for text in shown]
        assert len(self.shown) == len(commands), self.ran.text
        self.by = dict(zip(commands, self.shown))


@pytest.fixture(scope="module")
def crash_of(tmp_path_factory: pytest.TempPathFactory) -> Crash:
    base = tmp_path_factory.mktemp("programs")
    for name in ("home", "work"):
        (base / name).mkdir()
    return Crash(base / "home", base / "work")


@pytest.fixture(scope="module")
def session(crash_of: Crash, truncated: Dump, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session that is minimal at first, and then full and repaired."""
    crash = crash_of
    set_up(crash, tmp_path_factory.mktemp("checkout") / "with a blank")
    for name in ("path", "pykdump"):
        (crash.folder / name).mkdir()
    for name, text in {
        "leftovers": LEFTOVERS, "order": ORDER, "child": CHILD, "PyKdumpInit": "print('stranger')",
        "many": "print('stranger')", "pykdump/__init__": "print('stranger')",
        "path/found": "print('in the path')", "path/order": "print('not this one')",
        "reloads": RELOADS, "counted": "import builtins; builtins.runs = runs = 1 + getattr("
        "builtins, 'runs', 0)",
        "old": "import minimal_only; print(minimal_only.noted)",
        "minimal_only": "from pykdump_ext.host import crash; noted = crash.session().minimal",
    }.items():  # fmt: skip
        crash.write(f"{name}.py", text)
    commands = [
        "tells", "epython old", "epython -p", "extend p2mfix.py", "epython old",
        "tells", "tells a b", "epython tells.py", "tells fail", "tells exit 3", "tells exit 0",
        "tells exit 'text'", "tells exit -1", "tells --exit", "tells --wrong", "many | head -2",
        "tells x | tr a-z A-Z", "tells > out", "tells y >> out", "tells --ofile report z",
        "epython leftovers\nsaid", "epython leftovers \nsaid", "epython order",
        "epython order > ordered",
        "epython child", "epython reloads", "py -c 'import colorsys, this'",
        "epython found", "epython nosuch", "epython", "epython -v", "epython -x",
        "epython -h", "epython --ehelp", "epython -d 1 tells", "epython --debug 0",
        "epython -m this | head -1", "epython -m", "epython -d x", "help tells",
        "alias further sys", "later", "further", "help further", "alias", "extend -u epython.py",
        "tells ",
        "py -c 'print(crash.get_epython_cmds()); crash.register_epython_prog(*\"abcd\")'",
        "extend epython.py", "further ", "tells  ",
        "py -c 'crash.register_epython_prog(\"x\", 1, \"\", \"\")'",
        *NO_NAMES,
    ]  # fmt: skip
    return Session(crash, ["crash", "--minimal", truncated.vmlinux, truncated.vmcore], commands)


RUN = "entered\n__main__ tells.py {} False\nleft\n"


def test_a_minimal_session_has_epython_and_a_full_one_the_commands(session: Session) -> None:
    assert session.start.endswith(
        f'{LOADED}epython: "bt" is a duplicate of a currently-existing command\n'
        "registered: tells later many\n"
    )
    # nothing in the current folder takes the place of a command's program, or of its modules
    assert "stranger" not in session.ran.text
    assert session.shown[0].startswith("crash: tells: command not available in minimal mode\n")
    assert "repaired" in session.shown[3] or "rebuilt from page tables" in session.shown[3]
    assert session.shown[1] == "True\n"
    # what a minimal session has imported is forgotten, so it is not taken for the full one's
    assert session.by["epython old"] == session.shown[4] == "False\n"


def test_a_program_has_hooks_arguments_and_a_namespace_of_its_own(session: Session) -> None:
    assert session.by["tells"] == RUN.format([])
    assert session.by["tells a b"] == RUN.format(["a", "b"])
    assert session.by["epython tells.py"] == RUN.format([])


def test_the_end_of_a_program_is_shown_and_the_session_goes_on(session: Session) -> None:
    assert session.by["tells fail"] == (
        "entered\n__main__ tells.py ['fail'] False\n"
        "Traceback (most recent call last):\n"
        f'  File "{program(session)}", line 11, in <module>\n    fail()\n'
        f'  File "{program(session)}", line 5, in fail\n    raise ValueError("its own")\n'
        "ValueError: its own\nleft\n"
    )
    for words, said in (("3", " -- sys.exit(3) --\n"), ("-1", " -- sys.exit(-1) --\n"), ("0", "")):
        shown = f"entered\n__main__ tells.py ['exit', '{words}'] False\n{said}left\n"
        assert session.by[f"tells exit {words}"] == shown
    assert session.by["tells exit 'text'"].endswith(" False\ntext\nleft\n")
    # an error in the options: the program does not run
    assert session.by["tells --exit"] == " -- sys.exit(7) --\nleft\n"
    wrong = session.by["tells --wrong"]
    assert wrong.startswith("Error in sys.enterepython:\nTraceback (most recent call last):\n")
    assert "programs.py" not in wrong and "ValueError: wrong option\n__main__ tells.py" in wrong


def program(session: Session) -> str:
    """Return the path of the program tells, as the session shows it."""
    return session.by["epython -d 1 tells"].partition("\n")[0].removeprefix("epython: ")


def test_output_goes_where_crashs_output_goes(session: Session, crash_of: Crash) -> None:
    assert session.by["many | head -2"] == "entered\nline 0\n"
    assert session.by["tells x | tr a-z A-Z"] == RUN.format(["x"]).upper()
    assert session.by["tells > out"] == session.by["tells y >> out"] == ""
    assert (crash_of.folder / "out").read_text() == RUN.format([]) + RUN.format(["y"])
    assert session.by["tells --ofile report z"] == ""
    assert (crash_of.folder / "report").read_text() == RUN.format(["z"])
    ordered = b"one two \xff three\nfour\nfive\nleft\n"
    assert (crash_of.folder / "ordered").read_bytes() == b"entered\n" + ordered
    assert session.by["epython order"] == "entered\n" + ordered.decode(errors="replace")


def test_a_program_leaves_nothing_behind(session: Session) -> None:
    first, second = session.by["epython leftovers\nsaid"], session.by["epython leftovers \nsaid"]
    # its own sys.stdout is None at the end, so nothing shows what the hook prints
    assert first == second == "entered\n1 False said (0.0, 0.0) 0\nshown\n"
    assert session.by["epython child"].endswith("\nchild: 9\nleft\n")


def test_a_program_reloads_its_own_modules_only(session: Session) -> None:
    assert session.by["epython reloads"] == "entered\n2 True\nleft\n"
    assert "Beautiful" in session.by["py -c 'import colorsys, this'"]  # Python still imports


def test_options_of_epython(session: Session, crash_of: Crash) -> None:
    assert session.by["epython found"] == "entered\nin the path\nleft\n"
    folders = f"., path, {Path(program(session)).parent}"
    said = session.by["epython nosuch"].replace(str(crash_of.folder / "path"), "path")
    assert said == f"epython: nosuch: no such program in {folders}\n"
    assert session.by["epython"] == "epython: no program is given (see 'help epython')\n"
    assert session.by["epython -x"] == "epython: option -x not recognized (see 'help epython')\n"
    assert session.by["epython -d x"].startswith("epython: -d takes a number, not x")
    assert session.by["epython -m"] == "epython: no module follows -m (see 'help epython')\n"
    assert session.by["epython -v"].endswith(f"\nPyKdump: {Path(program(session)).parents[1]}\n")
    assert "  -m             run a module" in session.by["epython -h"]
    assert session.by["epython --ehelp"] == "common options: 1\n"
    assert session.by["epython -d 1 tells"] == f"epython: {program(session)}\n{RUN.format([])}"
    assert session.by["epython --debug 0"] == ""
    assert session.by["epython -m this | head -1"] == "entered\n"
    version, folders = session.by["epython -p"].splitlines()
    root = str(Path(program(session)).parents[1])
    assert re.match(r"3\.\d+", version) and folders.startswith("['/")
    assert f"'{root}', " in folders and folders.endswith(f"'{root}/Extension']")


def test_registered_programs_have_help_and_others_can_be_added(session: Session) -> None:
    assert session.by["help tells"] == (
        "\nNAME\n  tells - tells things\n\nSYNOPSIS\n  tells [-x]\n\n"
        "DESCRIPTION\n  -x\n      100% of %s\n\n"
    )
    assert session.by["later"] == (
        "entered\n['epython', 'tells', 'later', 'many']\n"
        'later: alias "further" deleted: name clash with extension command\n'
        'epython: "further" is a duplicate of a currently-existing command\n[True, False]\n'
        "entered\n__main__ tells.py ['exit', '4'] False\n -- sys.exit(4) --\nleft\n"
        f"{session.by['epython nosuch']}"
        f"inner: {RUN.format(['in']).split(chr(10))}\nlater.py True\nleft\n"
    )
    assert session.by["further"] == "entered\nregistered by a program\nleft\n"
    assert "  More help.\n" in session.by["help further"]
    assert "further " not in session.by["alias"]


def test_unloading_takes_all_commands_away(session: Session) -> None:
    assert session.by["extend -u epython.py"].endswith("/epython.py: unloaded\n")
    assert session.by["tells "] == "crash: command not found: tells\n"
    lines = session.by[
        "py -c 'print(crash.get_epython_cmds()); crash.register_epython_prog(*\"abcd\")'"
    ].splitlines()
    assert lines == ["[]", "py: programs of PyKdump need the command epython: extend epython.py"]
    assert session.by["extend epython.py"].endswith("registered: tells later many\n")
    assert session.by["further "] == "crash: command not found: further\n"
    assert session.by["tells  "] == RUN.format([])
    wrong = session.by['py -c \'crash.register_epython_prog("x", 1, "", "")\'']
    assert wrong == "py: invalid parameter(s) type\n"
    for command, name in zip(NO_NAMES, ("'a b'", "'\\x1bx'", "''")):
        assert session.by[command] == f"py: {name}: not a name for a command, which is one word\n"


# --------------------------------------------------------------------------


@pytest.fixture
def terminal(crash: Crash, truncated: Dump, tmp_path: Path) -> Iterator[Terminal]:
    set_up(crash, tmp_path / "checkout")
    with (crash.home / ".crashrc").open("a") as rc:
        rc.write("set scroll off\nset emacs\n")
    words = ["crash", "-s", "--minimal", str(truncated.vmlinux), str(truncated.vmcore)]
    made = Terminal(crash, words)
    made.until()
    yield made
    made.kill()


def test_keys(terminal: Terminal, crash: Crash) -> None:
    for name, text in KEYS.items():
        crash.write(f"{name}.py", text)
    terminal.child.sendline("epython loop")
    terminal.until("begun")
    terminal.interrupt()
    assert "left" in terminal.until()
    terminal.line("epython ask", "which? ")
    assert "True forty-twoforty-two\n" in terminal.line("forty-two")
    assert "TimeoutError: late\n" in terminal.line("epython late")
    assert "1f4" in terminal.line("eval 500")


def test_without_a_checkout(crash: Crash, truncated: Dump, host: Path, tmp_path: Path) -> None:
    crash.write("own.py", "import sys; print('own', sys.argv[1:])")
    words: list[str | Path] = ["crash", "-s", "--minimal", truncated.vmlinux, truncated.vmcore]
    commands = [f"extend {host}", "extend epython.py", "epython own 1", "epython tells", "quit"]
    ran = crash.run(words, commands)
    assert ran.after(LOADED) == (
        "own ['1']\nepython: tells: no such program in .;"
        " pykdump-ext setup --pykdump PATH registers PyKdump's\n"
    )
    set_up(crash, tmp_path / "checkout")
    (tmp_path / "checkout").rename(tmp_path / "gone")
    ran = crash.run(words, ["epython own", "quit"])
    assert ran.after(LOADED) == (
        f"epython: {tmp_path}/checkout, the registered checkout of PyKdump, is gone: run"
        " pykdump-ext setup --pykdump PATH, or pykdump-ext setup --remove\nown []\n"
    )
