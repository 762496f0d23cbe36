# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lock a blocked task waits for, by the functions and variables of its stack."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import drgn
import pytest
from drgn import Object, TypeMember

from pykdump_ext.drgn.locks import Waiter, waits

OLD, NEW, WAITER, OWNER = 0x1000, 0x1100, 0x2000, 0x3000
MEMORY = {
    NEW: struct.pack("<QQ", 0, OWNER),
    WAITER: struct.pack("<16si", b"dd", 149),
    OWNER: struct.pack("<16si", b"sync", 146),
}


def program() -> drgn.Program:
    """Return a program with tasks, and with a semaphore of each kind."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for address, data in MEMORY.items():
        prog.add_memory_segment(
            address, len(data), lambda _, size, at, physical, data=data: data[at : at + size]
        )
    number, word = prog.int_type("int", 4, True), prog.int_type("unsigned long", 8, False)
    comm = prog.array_type(prog.int_type("char", 1, True), 16)
    task = (TypeMember(comm, "comm", 0), TypeMember(number, "pid", 128))
    types = {
        "task_struct": prog.struct_type("task_struct", 20, task),
        "old": prog.struct_type("old", 8, (TypeMember(word, "count", 0),)),
        "new": prog.struct_type(
            "new", 16, (TypeMember(word, "count", 0), TypeMember(word, "last_holder", 64))
        ),
    }
    prog.register_type_finder(
        "test", lambda prog, kinds, name, file: types.get(name), enable_index=0
    )
    return prog


PROG = program()


def waiting(*frames: tuple[str, dict[str, Any]]) -> Any:
    """Return a task with these functions on its stack, and their variables."""

    class Frame(dict[str, Any]):
        name = ""

    trace = []
    for name, variables in frames:
        frame = Frame(variables)
        frame.name = name
        trace.append(frame)
    task = Object(PROG, "struct task_struct *", WAITER)
    return SimpleNamespace(
        prog_=SimpleNamespace(stack_trace=lambda task: trace), comm=task.comm, pid=task.pid
    )


OLD_LOCK = Object(PROG, "struct old *", OLD)
NEW_LOCK = Object(PROG, "struct new *", NEW)


@pytest.mark.parametrize(
    "function",
    ["down", "___down_common", "__down_common.constprop.0", "__down_timeout", "down_killable"],
)
def test_who_waits_for_a_semaphore(function: str) -> None:
    asleep: list[tuple[str, dict[str, Any]]]
    asleep = [("__schedule", {}), ("schedule_timeout", {"sem": OLD_LOCK})]
    assert waits(waiting(*asleep, (function, {"sem": OLD_LOCK}))) == [
        Waiter("dd (149)", "semaphore", f"{OLD:x}", None)
    ]
    # since Linux 6.16 the kernel knows who took it last
    assert waits(waiting(*asleep, (function, {"sem": NEW_LOCK}))) == [
        Waiter("dd (149)", "semaphore", f"{NEW:x}", "last taken by sync (146)")
    ]


def test_the_first_frame_that_has_the_lock_says_which_it_is() -> None:
    absent = Object(PROG, "struct old *")  # as in optimised code
    assert waits(waiting(("__down", {"sem": absent}), ("down", {"sem": OLD_LOCK}), ("x", {}))) == [
        Waiter("dd (149)", "semaphore", f"{OLD:x}", None)
    ]
    assert waits(waiting(("__down", {}), ("io_schedule", {"sem": OLD_LOCK}))) == []
    # a lock whose owner cannot be read
    assert waits(waiting(("down_write", {"sem": OLD_LOCK}))) == [
        Waiter("dd (149)", "rw_semaphore", f"{OLD:x}", None)
    ]
    assert waits(waiting(("mutex_lock", {"lock": OLD_LOCK}))) == [
        Waiter("dd (149)", "mutex", f"{OLD:x}", None)
    ]
