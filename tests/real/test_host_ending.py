# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command in Python leaves behind: nothing for the next one, and no file half written."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import Crash, minimal


def test_a_command_finds_nothing_of_the_one_before(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "takes.py",
        "import io, signal, sys, crash\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sys.stdout = sys.keep = open('taken', 'w')\n"
        "print('taken')\n"
        "print(crash.exec_crash_command('py hello.py'), end='')\n"
        "sys.stderr.close()\n",
    )
    crash.write(
        "hello.py",
        "import signal, sys\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('hello', flush=True)\n"
        "print('err', file=sys.stderr)\n",
    )
    ran = minimal(crash, untouched, host, "py takes.py", "!cat taken", "py hello.py > out")
    assert ran.after("shared object loaded\n") == "taken\nhello\nerr\n"
    assert (crash.folder / "out").read_text() == "hello\nerr\n"


def test_text_that_cannot_be_written_to_a_replaced_output_is_told(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("full.py", "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('lost')\n")
    ran = minimal(crash, untouched, host, "py full.py", "eval 16")
    assert "py: OSError: [Errno 28] No space left on device" in ran.text
    assert "hexadecimal: 10" in ran.text


ENDS = (
    "import atexit, sys, threading, time\n"
    "from concurrent.futures import ThreadPoolExecutor\n"
    "sys.keep = open('written', 'w'), ThreadPoolExecutor(2)\n"
    "sys.keep[0].write('all of it')\n"
    "sys.keep[1].submit(print, 'pool')\n"
    "atexit.register(print, 'at the end')\n"
    "atexit.register(lambda: 1 / 0)\n"
    "def late():\n"
    "    time.sleep(1)\n"
    "    print('late')\n"
    "threading.Thread(target=late).start()\n"
)


def test_python_ends_with_the_session(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("ends.py", ENDS)
    ran = minimal(crash, untouched, host, "py ends.py")
    assert ran.status == 0
    assert ran.text.endswith("late\npy: ZeroDivisionError: division by zero\nat the end\n")
    assert "Traceback" not in ran.text
    assert (crash.folder / "written").read_text() == "all of it"


def test_python_ends_too_where_a_program_ends_crash_and_waits_for_no_thread_for_ever(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "quits.py",
        "import atexit, crash, threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "threading.Thread(target=time.sleep, args=(600,), name='sleeper').start()\n"
        "ThreadPoolExecutor(1, 'pool').submit(time.sleep, 600)\n"
        "atexit.register(print, 'at the end')\n"
        "def main():\n"
        "    file, data, both = open('written', 'w'), open('data', 'wb'), open('both', 'w+b')\n"
        "    file.write('all of it'), data.write(b'all'), both.write(b'all')\n"
        "    crash.exec_crash_command('quit')\n"
        "main()\n",
    )
    started = time.monotonic()
    ran = minimal(crash, untouched, host, "py quits.py")
    assert time.monotonic() - started < 300
    assert ran.status == 0
    assert ran.text.endswith(
        "py: crash ends and stops threads that still run: sleeper, pool_0\nat the end\n"
    )
    written = [(crash.folder / name).read_text() for name in ("written", "data", "both")]
    assert written == ["all of it", "all", "all"]


def test_a_child_of_python_is_no_second_crash(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "forks.py",
        "import os, signal, sys, threading, time, warnings, crash\n"
        "warnings.simplefilter('ignore')  # Python 3.12 and newer: this process has threads\n"
        "def ended(child): print('ended', os.waitpid(child, 0)[1])\n"
        "print('begun')\n"
        "for work in ('sys.exit()', 'sys.exit(3)', 'crash.exec_crash_command(\"rd 0\")'):\n"
        "    child = os.fork()\n"
        "    if child: ended(child)\n"
        "    else:\n"
        "        print('in child')\n"
        "        exec(work)\n"
        "        break\n"
        "else:\n"
        "    def fork():\n"
        "        global child\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            try: time.sleep(600)\n"
        "            except KeyboardInterrupt: os._exit(7)\n"
        "    thread = threading.Thread(target=fork)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    time.sleep(0.3)\n"
        "    os.kill(child, signal.SIGINT)\n"
        "    ended(child)\n",
    )
    ran = minimal(crash, untouched, host, "py forks.py > out", "eval 16")
    assert (crash.folder / "out").read_text() == (
        "begun\nin child\nended 0\nin child\nended 768\n"
        "in child\nno current user process\nended 256\nended 1792\n"
    )
    assert ran.text.count("hexadecimal: 10") == 1


def test_messages_of_getopt_are_part_of_what_a_command_prints(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "options.py",
        "import crash\n"
        "try: crash.run_command('rd -Z')\n"
        "except crash.error as error: print([str(error), error.output.splitlines()[:2]])\n",
    )
    ran = minimal(crash, untouched, host, "py options.py")
    wanted = "[\"invalid option -- 'Z'\", [\"rd: invalid option -- 'Z'\", 'Usage:']]\n"
    assert ran.after("shared object loaded\n") == wanted


def test_readmem_reads_the_task_that_is_asked_for_and_no_other(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "tasks.py",
        "import crash, re\n"
        "def task(command): return int(re.search(r'(?m)TASK: (\\w+)|^>? +1 +\\d+ +\\d+ +(\\w+)',"
        " crash.exec_crash_command(command)).expand(r'\\1\\2'), 16)\n"
        "def start(task):\n"
        "    mm = crash.readPtr(task + crash.member_offset('task_struct', 'mm'))\n"
        "    at = crash.exec_gdb_command('print &((struct mm_struct *)0)->arg_start')\n"
        "    return crash.readPtr(mm + int(at.split()[-1], 16))\n"
        "own, init = task('set'), task('ps')\n"
        "assert own != init\n"
        "at = start(init)\n"
        "wanted = crash.readmem(crash.uvtop(init, at), 8, crash.PHYSADDR)\n"
        "for bad in (0x1000, init + 8):\n"
        "    try: crash.set_readmem_task(bad)\n"
        "    except crash.error as error: print(str(error).replace(f'{init + 8:x}', 'there'))\n"
        "banner = crash.sym2addr('linux_banner')\n"
        "assert crash.readmem(banner, 5) == b'Linux'\n"
        "crash.set_readmem_task(init)\n"
        "assert crash.readmem(at, 8) == wanted\n"
        "assert task('set') == own\n"
        "many = crash.readmem_many([at, at], 8)\n"
        "crash.set_readmem_task(0)\n"
        "assert [*many] == [wanted, wanted]\n"  # of the task that was asked for
        "assert task('set') == own\n"
        "try: crash.readmem(at, 8, crash.UVADDR)\n"  # the session's task is a kernel thread
        "except crash.error as error: print(str(error).split(':')[0])\n"
        "assert crash.readmem(banner, 5) == b'Linux'\n"
        "crash.set_readmem_task(init)\n"
        "print('done')\n",
    )
    crash.write(
        "next.py",
        "import crash\nprint(crash.readmem(crash.sym2addr('linux_banner'), 13))\n",
    )
    ran = crash(untouched, [f"extend {host}", "set 0", "py tasks.py", "py next.py"], "-s")
    assert ran.text.splitlines()[-5:] == [
        "crash has no task at 1000",
        "crash has no task at there",
        "invalid kernel virtual address",
        "done",
        "b'Linux version'",
    ]
