# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of a dom0 that hung or had no memory left: crash and drgn show it after the repair."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from drgn.helpers.linux.pid import find_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import task_state_to_char

from pykdump_ext.drgn.prog import program
from tests.lab.broken import truncated
from tests.lab.dump import Dump
from tests.lab.failures import OPENERS, WRITERS, console_of, failure
from tests.lab.packages import Missing

from .repaired import shown_after_repair
from .sessions import Crash
from .traces import are_in_order, names

pytestmark = pytest.mark.thorough
COMMANDS = ("foreach UN bt", "log", "ps", "sys", "bt", "kmem -i")
# Functions of each kind of hung task, in order, innermost first
WAITS_FOR_PAGES = ("io_schedule", "folio_wait_bit_common", "__filemap_fdatawait_range")
STACKS = {
    "writer": (*WAITS_FOR_PAGES, "blkdev_fsync"),
    "sync": (*WAITS_FOR_PAGES, "sync_bdevs"),
    "opener": ("__mutex_lock", "blkdev_get_by_dev", "blkdev_open"),
}


def made(name: str) -> Dump:
    try:
        return failure(name)
    except Missing as error:
        pytest.skip(str(error))


def hung_tasks(dump: Dump) -> dict[int, str]:
    """Return the kind of each task that hangs, by PID, as dom0's console names them."""
    found = re.findall(r"^lab: (writer|sync|opener) (\d+)", console_of(dump), re.MULTILINE)
    kinds = {int(pid): kind for kind, pid in found}
    assert sorted(kinds.values()) == sorted(["writer"] * WRITERS + ["sync"] + ["opener"] * OPENERS)
    return kinds


def stacks(text: str) -> dict[int, list[str]]:
    """Return the functions of each stack that crash prints, innermost first, by PID."""
    found = {}
    for part in re.split(r"(?m)^(?=PID: )", text)[1:]:
        functions = re.findall(r"^ *#\d+ \[\w+\] (\w+)[\w.]* at", part, re.MULTILINE)
        if "do_syscall_64" in functions:  # behind it crash shows what is left over
            functions = functions[: functions.index("do_syscall_64") + 1]
        found[int(part.split()[1])] = functions
    return found


def test_hung_tasks_are_shown_with_their_stacks(crash: Crash, host: Path, tmp_path: Path) -> None:
    whole = made("hung")
    hung = hung_tasks(whole)
    shown = shown_after_repair(crash, host, whole, "hung-", COMMANDS, tmp_path)

    found = stacks(shown["foreach UN bt"])
    assert found.keys() >= hung.keys()
    for pid, kind in hung.items():
        assert are_in_order(STACKS[kind], found[pid])
        assert re.search(rf"^ +{pid} .* UN .* (dd|sync)$", shown["ps"], re.MULTILINE)
        assert re.search(
            rf"INFO: task (dd|sync):{pid} blocked for more than \d+ seconds", shown["log"]
        )
    for kind in STACKS:
        assert len({tuple(found[pid]) for pid, other in hung.items() if other == kind}) == 1

    prog = program(truncated(whole, "hung-").vmcore, whole.vmlinux)
    for pid, kind in hung.items():
        task = find_task(prog, pid)
        assert task_state_to_char(task) == "D"
        unwound = [re.sub(r"\..*", "", function) for function in names(prog.stack_trace(task))]
        assert are_in_order(STACKS[kind], unwound)


def test_what_used_up_memory_is_shown(crash: Crash, host: Path, tmp_path: Path) -> None:
    whole = made("oom")
    shown = shown_after_repair(crash, host, whole, "oom-", COMMANDS, tmp_path)
    log = shown["log"]
    assert "awk invoked oom-killer: " in log and "Mem-Info:" in log
    listed = re.findall(r"\[ *(\d+)\] +\d+ +\d+ +\d+ +(\d+) .* awk$", log, re.MULTILINE)
    ((pid, pages),) = listed
    assert int(pages) * 4 > 300 << 10  # KiB, of 700 MiB
    in_ps = re.search(rf"^[> ]+{pid} .* awk$", shown["ps"], re.MULTILINE)
    assert not in_ps and f"Out of memory: Killed process {pid} (awk)" in log
    prog = program(truncated(whole, "oom-").vmcore, whole.vmlinux)
    assert f"[{pid:>7}]" in get_dmesg(prog).decode()
