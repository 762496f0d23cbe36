# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: errors are a line each, and the session goes on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.broken import diagnosis
from tests.lab.dump import Dump

from .sessions import Crash, minimal

ERRORS = (
    "from pykdump_ext.host import crash\n"
    "from pykdump_ext.host import command\n"
    "import argparse\n"
    "p = argparse.ArgumentParser(description='adds')\n"
    "p.add_argument('n', type=int)\n"
    "@command('adds', parser=p, minimal=True)\n"
    "def adds(args): print(args.n + 1)\n"
    "@command('fails', minimal=True)\n"
    "def fails(words): return 1 // 0\n"
    "@command('reads', minimal=True)\n"
    "def reads(words): crash.readmem(int(words[0], 16), 8)\n"
)


def test_an_error_is_one_line_and_the_session_goes_on(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    crash.write("errors.py", ERRORS)
    crash.write("broken.py", "def (\n")
    crash.write("exits.py", "import sys; sys.exit('text \\ud800')")
    crash.write(
        "odd.py", "class Odd(Exception):\n    def __str__(self): return 1 // 0\nraise Odd\n"
    )
    found = diagnosis(truncated)
    lost = found.kernel.page_offset() + (found.coverage.lost[-1][1] << 12) + 0x24
    ran = minimal(
        crash, truncated, host,
        "extend errors.py", "adds 41", "adds", "adds x", "fails", f"reads {lost:x}",
        "reads 0", "reads zz", "extend broken.py", "py nosuch.py", "adds 1",
        "py exits.py", "py odd.py",
    )  # fmt: skip
    said = ran.after("errors.py: loaded\n").splitlines()
    said = [line for line in said if line]
    assert said[:3] == [
        "42",
        "adds: the following arguments are required: n (see 'help adds')",
        "adds: argument n: invalid int value: 'x' (see 'help adds')",
    ]
    assert re.fullmatch(r"fails: ZeroDivisionError: .* \(\S+errors\.py, line 9\)", said[3])
    assert said[4] == f'reads: read error: kernel virtual address: {lost:x}  type: "Python"'
    assert said[5] == "reads: read of a NULL pointer"
    assert said[6].startswith("reads: ValueError: invalid literal for int() with base 16: 'zz' (")
    assert re.fullmatch(r"extend: SyntaxError: invalid syntax \(\S+broken\.py, line 1\)", said[7])
    assert said[8:-1] == ["py: nosuch.py: no such file; py -c CODE runs code", "2", "py: text ?"]
    assert re.fullmatch(r"py: Odd: an exception without a text \(\S*odd\.py, line 3\)", said[-1])


def test_crash_reads_no_half_of_a_name(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "halves.py",
        "import crash\n"
        "for call in (crash.sym2addr, crash.struct_size, crash.exec_crash_command,\n"
        "             crash.exec_gdb_command, lambda name: crash.read_machine(0, 8, name)):\n"
        "    try: print(call('list_head\\0junk'))\n"
        "    except crash.error as error: print(error)\n",
    )
    ran = minimal(crash, untouched, host, "py halves.py")
    said = "'list_head\\x00junk': crash takes no zero byte in a name or a command\n"
    assert ran.after("shared object loaded\n") == said * 5


def test_a_name_that_is_no_utf_8_is_no_name_of_the_kernel(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "odd_names.py",
        "import crash\n"
        "for name in ('\\udcff', '\\ud800x'):\n"
        "    print(crash.sym2addr(name), crash.struct_size(name), crash.enumerator_value(name))\n"
        "    for call in (crash.gdb_typeinfo, crash.gdb_whatis, crash.sizeof,\n"
        "                 crash.exec_gdb_command, crash.run_command):\n"
        "        try: print(call(name))\n"
        "        except crash.error as error: print('error:', error)\n",
    )
    ran = minimal(crash, untouched, host, "py odd_names.py")
    said = ran.after("shared object loaded\n").splitlines()
    assert said[0] == said[6] == "0 -1 None"
    assert sum(line.startswith("error: ") for line in said) == len(said) - 2 == 10, said
    assert said[1] == "error: \\udcff: the kernel has no such type or variable"


def test_a_traceback_is_shown_only_on_request(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("errors.py", ERRORS)
    quiet = minimal(crash, untouched, host, "extend errors.py", "fails")
    assert "Traceback" not in quiet.text
    loud = minimal(crash, untouched, host, "extend errors.py", "fails", P2MFIX_DEBUG="1")
    assert "Traceback (most recent call last)" in loud.text
    assert "fails: ZeroDivisionError" in loud.text


def test_crashs_own_errors_become_exceptions_and_its_state_survives_them(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "many.py",
        "import crash\n"
        "for i in range(2000):\n"
        "    try:\n"
        "        crash.exec_crash_command('rd 0')\n"
        "    except crash.error as error:\n"
        "        message = error.message\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
        "print(message)\n"
        "try: crash.exec_gdb_command('print no_such_symbol')\n"
        "except crash.error as error: print(error)\n"
        "print(crash.exec_crash_command('eval 1 + 1').splitlines()[0])\n",
    )
    ran = crash(untouched, [f"extend {host}", "py many.py", "ps | head -3", "bt | head -1"], "-s")
    text = ran.after("shared object loaded\n")
    assert text.splitlines()[0] == 'invalid user virtual address: 0  type: "64-bit UVADDR"'
    assert 'No symbol "no_such_symbol" in current context.' in text or "gdb request failed" in text
    assert "hexadecimal: 2" in text
    assert "PID    PPID  CPU" in text
    assert "PID: 1 " in text
    assert ran.status == 0


def test_a_command_used_wrongly_or_unknown_is_an_exception_with_what_it_printed(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "wrong.py",
        "import crash\n"
        "for line in ('rd', 'sym', 'nosuch', 'sym ' + 1600 * ' ' + 'jiffies'):\n"
        "    try: crash.run_command(line)\n"
        "    except crash.error as error: print('error:', error, 'Usage:' in error.output)\n"
        "print(crash.exec_crash_command('nosuch'), end='')\n"
        "try: crash.exec_crash_command('sym')\n"
        "except crash.error as error: print(str(error) == error.output, error.message)\n"
        "print(crash.exec_crash_command('dmesg').count('Linux version'))\n",
    )
    ran = crash(untouched, [f"extend {host}", "alias dmesg log", "py wrong.py"], "-s")
    assert ran.text.splitlines()[-7:] == [
        "error: rd: wrong usage True",
        "error: sym: wrong usage True",
        "error: command not found: nosuch False",
        "error: a command of 1611 bytes is too long: crash takes 1499 at most False",
        "crash: command not found: nosuch",
        "True sym: wrong usage",
        "1",
    ]


def test_threads_are_kept_out_of_crash(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "threads.py",
        "import crash, threading\n"
        "said = set()\n"
        "def work():\n"
        "    for _ in range(300):\n"
        "        for call in (lambda: crash.exec_crash_command('sym init_task'),\n"
        "                     lambda: crash.readmem(crash.sym2addr('linux_banner'), 8)):\n"
        "            try: call()\n"
        "            except crash.error as error: said.add(str(error))\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for t in threads: t.start()\n"
        "for _ in range(300): assert 'init_task' in crash.exec_crash_command('sym init_task')\n"
        "for t in threads: t.join()\n"
        "print(said)\n",
    )
    ran = minimal(crash, untouched, host, "py threads.py", "eval 16")
    assert "{\"only crash's own thread can call crash, not a thread that Python" in ran.text
    assert "hexadecimal: 10" in ran.text
    assert ran.status == 0


def test_a_command_may_unload_its_own_extension(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "selfun.py",
        "import gc\n"
        "from pykdump_ext.host import crash\n"
        "from pykdump_ext.host import command\n"
        "@command('selfunloadlongname', minimal=True)\n"
        "def run(words):\n"
        "    crash.run_command('extend -u selfun.py')\n"
        "    gc.collect()\n"
        "    junk = [bytes(32) for _ in range(10000)]\n"
        "    raise crash.error('after unload')\n",
    )
    ran = minimal(crash, untouched, host, "extend selfun.py", "selfunloadlongname", "eval 16")
    assert "selfunloadlongname: after unload\n" in ran.text
    assert "hexadecimal: 10" in ran.text


def test_an_extension_whose_start_failed_is_tried_again(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "later.py",
        "import os\n"
        "def loaded():\n"
        "    if not os.path.exists('now'): raise SystemExit('not yet')\n"
        "    print('now it is')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend later.py", "!touch now", "extend later.py", "extend later.py",
    )  # fmt: skip
    assert ran.after("crash_host.so: shared object loaded\n") == (
        "./later.py: loaded\nextend: not yet\nnow it is\n./later.py: already loaded\n"
    )


def test_what_cannot_be_written_is_told(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("hello.py", "print('\\ud800 lone')\nprint('hello')\n")
    ran = minimal(crash, untouched, host, "py hello.py > /dev/full", "py hello.py")
    assert re.search(r"py: OSError: \[Errno 28\] No space left on device", ran.text)
    assert ran.text.endswith("\\ud800 lone\nhello\n")


def test_errors_of_a_redirected_command_are_seen_on_the_terminal_too(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("errors.py", ERRORS)
    ran = minimal(crash, untouched, host, "extend errors.py", "adds > file", "adds 1 | cat")
    wanted = "adds: the following arguments are required: n (see 'help adds')\n"
    assert wanted in ran.text
    assert (crash.folder / "file").read_text() == wanted
    assert ran.text.endswith("2\n")
