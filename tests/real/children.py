# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run commands of crash in the background, and the processes that they start."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import SECONDS, Crash, Ran

LOADED = "shared object loaded\n"
HELPERS = """
import crash, os, select, time

ENDLESS = 'repeat -1 eval 16'  # every second; full sessions have it

def output(fd, pid):
    out = b''
    while read := os.read(fd, 4096): out += read
    os.close(fd)
    return out.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def line(fd):
    out = b''
    while not out.endswith(b'\\n') and (read := os.read(fd, 1)): out += read
    return out.decode().strip()

def background(command):
    return output(*crash.exec_crash_command_bg2(command))

def foreground(command):
    try: return crash.exec_crash_command(command), 0
    except crash.error as error: return error.output, 1

def children():
    with open(f'/proc/self/task/{os.getpid()}/children') as file: return file.read().split()

def pipes():
    found = set()
    for fd in os.listdir('/proc/self/fd'):
        try: found.add((fd, os.readlink(f'/proc/self/fd/{fd}')))
        except FileNotFoundError: pass  # that of listdir()
    return {fd for fd in found if 'pipe:' in fd[1]}

before = pipes()

def say_left():
    print('left', children(), pipes() == before)
"""


def full(crash: Crash, dump: Dump, host: Path, *commands: str) -> Ran:
    """Run a silent full session with Python in it."""
    return crash(dump, [f"extend {host}", *commands], "-s")


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def has_ended(pid: int) -> bool:
    """Wait for the end of a process, which comes soon or never."""
    end = time.monotonic() + SECONDS
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)
