# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: the command ``py``, where output goes, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from pykdump_ext.linux.namelist import Namelist, release_of
from tests.lab import cache as lab_cache
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
    made.child.close(force=True)


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


TYPES = """
import crash, sys, time

def say(call):
    try: print(call())
    except Exception as error: print(type(error).__name__, error)

print(crash.symbol_exists('fixed_percpu_data'), crash.sym2addr('fixed_percpu_data'))
say(lambda: crash.readmem(0, 8))
print(issubclass(crash.NullPointer, IndexError), issubclass(crash.NullPointer, crash.error))
banner = crash.sym2addr('linux_banner')
for read in crash.readmem, crash.read_machine, crash.readInt:
    say(lambda: read(banner, 1 << 40))
print([crash.struct_size(name) for name in ('list_head', 'x' * 5000, 'nosuch')])
print([crash.member_size('task_struct', name) for name in ('pid', 'nosuch', 'x' * 5000)])
print([crash.member_offset(*names) for names in (('list_head', 'prev'), ('list_head', 'nosuch'))])
print(crash.sizeof('list_head'), crash.offsetof('list_head', 'prev'))
for call in (
    lambda: crash.sizeof('nosuch'), lambda: crash.offsetof('list_head', 'nosuch'),
    lambda: crash.offsetof('nosuch', 'member'),
):
    say(call)
"""


def test_the_module_crash_answers_what_is_odd_as_it_says(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("odd.py", TYPES)
    ran = minimal(crash, untouched, host, "py odd.py")
    too_large = (
        "error a read of 1,099,511,627,776 bytes at once is too large:"
        " read 1,073,741,824 at most, and the rest by further calls"
    )
    assert ran.after("loaded\n").splitlines() == [
        "True 0",
        "NullPointer read of a NULL pointer",
        "True False",
        *([too_large] * 3),
        "[16, -1, -1]",
        "[4, -1, -1]",
        "[8, -1]",
        "16 8",
        "error the kernel has no struct or union nosuch",
        "error struct list_head has no member nosuch",
        "error the kernel has no struct or union nosuch",
    ]


def test_a_type_that_is_not_there_is_looked_up_once_until_modules_change(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """mod -s brings types; gdb is asked again after it, and for what is not there only then."""
    (crash.folder / "types.c").write_text("struct brought { int a[7]; long b; } brought;\n")
    version = release_of(Namelist(untouched.vmlinux).banner())
    (module,) = lab_cache.root().glob(
        f"package-linux-image-{version}-*/lib/modules/*/kernel/drivers/xen/xen-privcmd.ko"
    )
    subprocess.run(["cc", "-g", "-c", "types.c"], cwd=crash.folder, check=True)
    made = crash.folder / "xen-privcmd.ko"
    subprocess.run(["ld", "-r", "-o", made, module, crash.folder / "types.o"], check=True)
    crash.write(
        "types.py",
        "import crash, time\n"
        "def asked():\n"
        "    return crash.struct_size('brought'), crash.member_offset('brought', 'b'),\\\n"
        "        crash.member_offset('list_head', 'nosuch')\n"
        "start = time.process_time()\n"
        "first = asked()\n"
        "once = time.process_time() - start\n"
        "assert {first, *(asked() for _ in range(60))} == {first}\n"
        "print(*first, time.process_time() - start < 20 * once + 0.1)\n",
    )
    ran = crash(
        untouched,
        [f"extend {host}", "py types.py", f"mod -s xen_privcmd {made} > mod", "py types.py",
         "mod -d xen_privcmd", "py types.py"],
        "-s",
    )  # fmt: skip
    assert ran.after("object loaded\n").splitlines() == [
        "-1 -1 -1 True", "40 32 -1 True", "-1 -1 -1 True",
    ]  # fmt: skip


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
