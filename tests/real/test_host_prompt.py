# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: the command ``py``, where output goes, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.lab.dump import Dump

from .sessions import BIN, Crash, Terminal, minimal


@pytest.fixture
def terminal(crash: Crash, truncated: Dump, host: Path) -> Iterator[Terminal]:
    (crash.home / ".crashrc").write_text(f"set scroll off\nset emacs\nextend {host}\n")
    made = Terminal(
        crash, ["crash", "-s", "--minimal", str(truncated.vmlinux), str(truncated.vmcore)]
    )
    made.until()
    yield made
    made.kill()


# --------------------------------------------------------------------------
# output


def test_output_goes_where_crashs_output_goes(crash: Crash, untouched: Dump, host: Path) -> None:
    (crash.folder / "commands").write_text("hello > file2\nhello | tr h H\n")
    crash.write(
        "hello.py",
        "import sys\n"
        "from pykdump_ext.host import crash\n"
        "from pykdump_ext.host import command\n"
        "@command('hello', minimal=True)\n"
        "def hello(words):\n"
        "    print('hello')\n"
        "    print(crash.exec_crash_command('eval 8').split()[1])\n"
        "    sys.stdout.write('end\\n')\n"
        "@command('many', minimal=True)\n"
        "def many(words):\n"
        "    for i in range(10**6): print('line', i)\n"
        "@command('nested', minimal=True)\n"
        "def nested(words): print(crash.exec_crash_command('hello').upper(), end='')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend hello.py", "hello > file", "hello >> file", "hello | tr a-z A-Z",
        "many | head -2", "nested", "< commands", "hello | cat | cat",
    )  # fmt: skip
    once = "hello\n8\nend\n"
    assert (crash.folder / "file").read_text() == once * 2
    assert (crash.folder / "file2").read_text() == once
    text = ran.after("hello.py: loaded\n")
    assert text == (
        once.upper() + "line 0\nline 1\n" + once.upper() + once.replace("h", "H") + once
    )


# --------------------------------------------------------------------------
# py


def test_py_runs_a_script_with_its_arguments(crash: Crash, untouched: Dump, host: Path) -> None:
    (crash.folder / "helper.py").write_text("GREETING = 'good day'\n")
    crash.write(
        "run.py",
        "import sys, helper, crash\n"
        "print(helper.GREETING, sys.argv, __name__)\n"
        "print(crash.readmem(crash.sym2addr('linux_banner'), 13), crash.readInt("
        "crash.sym2addr('linux_banner'), 4) == crash.mem2long(b'Linu'))\n"
        "print(crash.addr2sym(crash.sym2addr('linux_banner')),"
        " crash.addr2sym(crash.sym2addr('linux_banner') + 1),"
        " crash.addr2sym(crash.sym2addr('linux_banner') + 1, True),"
        " crash.symbol_exists('nosuch'), crash.sym2addr('nosuch'))\n"
        "print(crash.struct_size('task_struct') > 1000, crash.member_offset('list_head', 'prev'),"
        " crash.member_size('list_head', 'prev'), crash.struct_size('nosuch'))\n",
    )
    ran = minimal(crash, untouched, host, "py run.py one two")
    assert ran.after("loaded\n").splitlines() == [
        "good day ['run.py', 'one', 'two'] __main__",
        "b'Linux version' True",
        "linux_banner None ('linux_banner', 1) False 0",
        "True 8 8 -1",
    ]


def test_py_is_a_prompt_with_a_memory(terminal: Terminal) -> None:
    greeting = terminal.line("py", ">>> ")
    assert re.match(r"(Python 3\.\d+\.\d+\S* in crash)?", greeting.strip())
    assert terminal.line("1 + 1", ">>> ").strip() == "2"
    assert "ZeroDivisionError" in terminal.line("1 / 0", ">>> ")
    terminal.line("answer = 42", ">>> ")
    terminal.line("exit()")
    terminal.line("py", ">>> ")
    assert terminal.line("answer", ">>> ").strip() == "42"
    terminal.child.send("\x10\x10")  # Ctrl-P twice: two lines up in the prompt's own history
    terminal.child.expect_exact("answer")
    terminal.child.sendline("")
    terminal.until(">>> ")
    terminal.child.sendeof()
    terminal.until()
    terminal.child.send("\x10")  # crash's own history has no Python in it
    terminal.child.expect_exact("py")


def test_py_dash_c_takes_the_code_as_it_was_typed(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "nested.py",
        "import crash\nprint(crash.exec_crash_command(\"py -c 'print(\\\"a  b\\\")'\"), end='')\n",
    )
    commands = [
        f"extend {host}", "py -c print(6 * 7)",
        "py -c 'print(\"a  b | c > d\", crash.readmem(crash.sym2addr(\"linux_banner\"), 5))'",
        """py -c "import sys; print(sys.argv, 'it is', __name__)" one 'two  three' """,
        "py -c print( \"x\", (1,  2)) | tr x y", "py -c '1 / 0'", "py -c 'print(1'", "py -c",
        "py -c 'print(1)", "py nested.py", "alias now py -c", "now print(  \"x\")",
    ]  # fmt: skip
    ran = crash(untouched, commands, "-s")
    said = [line for line in ran.after("loaded\n").splitlines() if line]
    said[5] = re.sub(r"(?<=SyntaxError: ).*(?=\()", "", said[5])  # in the words of this Python
    assert said[:8] == [
        "42",
        "a  b | c > d b'Linux'",
        "['-c', 'one', 'two  three'] it is __main__",
        "y (1, 2)",
        "py: ZeroDivisionError: division by zero (<py -c>, line 1)",
        "py: SyntaxError: (<py -c>, line 1)",
        "py: no code follows -c (see 'help py')",
        "py: a quote is not closed: 'print(1)",
    ]
    assert said[8] == "a  b"
    assert said[-1].startswith("py: NameError: name 'x' is not defined"), (
        said
    )  # an alias: crash's words


def test_tab_completes_names_at_the_prompt_of_py_and_symbols_at_crashs(
    crash: Crash, terminal: Terminal
) -> None:
    crash.write(
        "slow.py",
        "import crash, time\n"
        "class Slow:\n"
        "    def __dir__(self):\n"
        "        print('slow')\n"
        "        while True: crash.readmem(crash.sym2addr('linux_banner'), 8)\n"
        "class Odd:\n"
        "    def __dir__(self): raise ValueError\n",
    )
    terminal.line("py", ">>> ")
    terminal.child.send("cras\t.sym2ad\t'linux_banner') == crash.kv\t")
    terminal.child.expect_exact("crash.sym2addr('linux_banner') == crash.kvtop(")
    terminal.child.sendline("0)")
    assert "Error" in terminal.until(">>> ").replace("error", "Error")
    terminal.line("exec(open('slow.py').read())", ">>> ")
    terminal.line("slow, odd = Slow(), Odd()", ">>> ")
    terminal.child.send("odd.\t")
    terminal.child.send("\x15slow.\t")  # Ctrl-U takes the line away
    terminal.child.expect_exact("slow\r\n")
    terminal.interrupt()
    terminal.child.send("\x15'on' + 'ward'\r")
    terminal.child.expect_exact("'onward'")
    terminal.until(">>> ")
    terminal.child.sendeof()
    terminal.until()
    terminal.child.send("print linux_ban\t")
    terminal.child.expect_exact("linux_banner")
    terminal.child.sendline("")
    terminal.until()


# --------------------------------------------------------------------------
# Ctrl-C


def test_ctrl_c_in_python_is_a_keyboard_interrupt_and_a_prompt(
    crash: Crash, terminal: Terminal
) -> None:
    crash.write(
        "loop.py",
        "try:\n"
        "    print('looping')\n"
        "    while True: pass\n"
        "except KeyboardInterrupt:\n"
        "    print('was interrupted')\n"
        "    raise\n",
    )
    for _ in range(3):
        terminal.line("py loop.py", "looping\r\n")
        terminal.interrupt()
        assert "was interrupted" in terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_in_crashs_code_ends_the_command_as_crash_does(
    crash: Crash, terminal: Terminal
) -> None:
    crash.write(
        "search.py",
        "import crash\n"
        "print('searching')\n"
        "try:\n"
        "    while True: crash.exec_crash_command('rd -p 1000000 100000')\n"
        "except KeyboardInterrupt:\n"
        "    print('was interrupted')\n"
        "    raise\n",
    )
    for _ in range(3):
        terminal.line("py search.py", "searching\r\n")
        terminal.child.expect(pexpect.TIMEOUT, timeout=0.3)
        terminal.interrupt()
        assert "was interrupted" in terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_at_the_prompt_of_py_gives_a_new_line_of_it(terminal: Terminal) -> None:
    terminal.line("py", ">>> ")
    terminal.child.send("half a li")
    terminal.child.expect_exact("half a li")
    terminal.interrupt()
    assert "KeyboardInterrupt" in terminal.until(">>> ")
    assert terminal.line("1 + 1", ">>> ").strip() == "2"
    terminal.child.sendeof()
    terminal.until()


def test_ctrl_c_while_crash_itself_works_is_crashs_own(terminal: Terminal) -> None:
    terminal.line("py", ">>> ")
    terminal.child.sendeof()
    terminal.until()
    terminal.child.sendline("rd -p 1000000 10000000")
    terminal.child.expect_exact("1000100:")
    terminal.interrupt()
    terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_waits_until_the_full_session_is_there(terminal: Terminal) -> None:
    terminal.line("extend p2mfix.py", "p2mfix.py: loaded")
    for _ in range(5):
        terminal.child.expect(pexpect.TIMEOUT, timeout=0.5)
        terminal.interrupt()
    terminal.until()
    terminal.line("p2m fix")  # where it was interrupted before that, it is tried again
    assert "sysrq_handle_crash" in terminal.line("bt")
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_sigint_is_left_to_crash_by_p2mfix(crash: Crash, truncated: Dump) -> None:
    (crash.home / ".crashrc").write_text("set scroll off\nset emacs\n")
    opened = Terminal(
        crash, [str(BIN / "p2mfix"), str(truncated.vmlinux), str(truncated.vmcore), "-s"]
    )
    opened.until()
    opened.child.sendline("rd -p 1000000 10000000")
    opened.child.expect_exact("1000100:")
    os.kill(opened.child.pid, signal.SIGINT)
    opened.until()
    assert "hexadecimal: 10" in opened.line("eval 16")
    opened.child.sendline("quit")
    opened.child.expect(pexpect.EOF)
    opened.child.close()
    assert opened.child.exitstatus == 0
