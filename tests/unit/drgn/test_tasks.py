# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks and lists of tasks of a damaged kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import drgn
import pytest

from pykdump_ext.drgn import tasks
from pykdump_ext.limits import within

PROG = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
WORD = PROG.int_type("unsigned long", 8, False)


def object_of(value: int) -> drgn.Object:
    return drgn.Object(PROG, WORD, value)


def kernel_with_clocks(
    monkeypatch: pytest.MonkeyPatch, clocks: list[float], uptime: float | None, log: float | None
) -> Any:
    def fails(prog: Any) -> Any:
        raise drgn.FaultError("no such memory", 7)

    queues = [SimpleNamespace(member_=lambda name, c=c: object_of(int(c * 1e9))) for c in clocks]
    helpers = SimpleNamespace(
        for_each_present_cpu=lambda prog: range(len(clocks)),
        cpu_rq=lambda prog, cpu: queues[cpu],
        uptime=fails if uptime is None else lambda prog: uptime,
    )
    monkeypatch.setattr(tasks, "linux", helpers)
    lines = [] if log is None else ["[    1.000000] first", f"[{log:12.6f}] last", "no clock"]
    monkeypatch.setattr(tasks, "log_lines", lambda prog: lines)
    return object()


@pytest.mark.parametrize(
    ("uptime", "log", "newest"),
    [
        (95, 95.5, 95.5),
        (None, 95.5, 95.5),
        (95, None, 95.25),
        (20, 95.5, 95.5),  # the cpu that keeps the time was stuck
    ],
)
def test_a_clock_of_the_far_future_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, uptime: float | None, log: float | None, newest: float
) -> None:
    notes: list[str] = []
    prog = kernel_with_clocks(monkeypatch, [90, 95.25, 8e9], uptime, log)
    assert tasks.newest_clock(prog, notes) == newest
    assert notes == ["the clock of vcpu 2 is damaged: 8,000,000,000.0 s"]


def test_a_clock_that_is_a_little_ahead_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks update the timekeeper's, and the last line of the log may be old."""
    notes: list[str] = []
    prog = kernel_with_clocks(monkeypatch, [90, 120.5], 95, 20)
    assert (tasks.newest_clock(prog, notes), notes) == (120.5, [])
    prog = kernel_with_clocks(monkeypatch, [90, 120.5], None, None)
    assert (tasks.newest_clock(prog, notes), notes) == (120.5, [])
    with pytest.raises(LookupError, match="neither run queues nor the log"):
        tasks.newest_clock(kernel_with_clocks(monkeypatch, [], 5, None), notes)


def test_tasks_for_which_the_time_ran_out_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of processes is for those that a damaged tree of PIDs hides."""

    def pids(prog: Any) -> Iterator[drgn.Object]:
        for address in range(1, 1000):
            time.sleep(0.02)
            yield object_of(address)

    helpers = SimpleNamespace(for_each_pid=pids, pid_task=lambda pid, kind: None)
    monkeypatch.setattr(tasks, "linux", helpers)
    listed: list[Any] = []

    def listing(prog: Any, notes: list[str]) -> list[Any]:
        listed.append(prog)
        return []

    monkeypatch.setattr(tasks, "_listed", listing)
    notes: list[str] = []
    prog: Any = {"PIDTYPE_PID": object_of(0)}
    within(1, lambda: [*tasks.every_task(prog, notes)])
    assert len(notes) == 1 and notes[0].startswith("PIDs: the time is up")
    assert not listed

    helpers.for_each_pid = lambda prog: iter([object_of(1), object_of(1)])
    assert [*tasks.every_task(prog, notes)] == [] and listed
