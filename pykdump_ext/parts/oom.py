# SPDX-License-Identifier: GPL-3.0-or-later
"""How a kernel ran out of memory, by its log: all of the host, or a control group at its limit.

``dump_header()`` of mm/oom_kill.c begins and ``__oom_kill_process()`` ends what is printed. Since
Linux 5.0 (ef8444ea01d7) a line ``oom-kill:constraint=...`` says whose memory it was; before, what
is printed of a control group has a line "Task in ... killed as a result of limit of ...".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["OutOfMemory", "last_of_each", "shortened"]

START = re.compile(r"invoked oom-killer")
# What is printed last: the kill, or a panic instead of it. Before Linux commit bbbe48029720 a line
# "Out of memory: Kill process" comes before "Killed process"
END = re.compile(r"Killed process|Kernel panic|System is deadlocked on memory|no killable process")
CONSTRAINT = re.compile(r"oom-kill:constraint=CONSTRAINT_(\w+)")
GROUP = re.compile(r"\boom_memcg=([^,\s]+)|killed as a result of limit of (\S+)")
ROW = re.compile(
    r"(?:\[ *\d+\.\d+\](?:\[[^\]]*\])? )?\[ *\d+\] +\d+ +\d+ "
)  # of the table of tasks
MOST_LOST = 100  # lines of a trace whose end is lost; one has about so many, and its table of tasks
ROWS = 10  # of the table of tasks, at each end
MOST_SHOWN = 160  # lines


@dataclass(frozen=True)
class OutOfMemory:
    """What the log has of one time that memory ran out.

    ``whose`` is ``dom0``, the path of a control group, or in words what else was constrained.
    """

    whose: str
    lines: tuple[str, ...]


def last_of_each(lines: Sequence[str]) -> list[OutOfMemory]:
    """Return the last time that all memory ran out, and the last time in a control group."""
    found: dict[bool, OutOfMemory] = {}
    starts = [at for at, line in enumerate(lines) if START.search(line)]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        trace = _to_its_end(lines[start:end])
        whose = _whose(trace)
        found[whose == "dom0"] = OutOfMemory(whose, tuple(trace))
    return [found[is_global] for is_global in (True, False) if is_global in found]


def _to_its_end(lines: Sequence[str]) -> Sequence[str]:
    last = next((at for at, line in enumerate(lines) if END.search(line)), None)
    return lines[:MOST_LOST] if last is None else lines[: last + 1]


def _whose(trace: Sequence[str]) -> str:
    text = "\n".join(trace)
    group, constraint = GROUP.search(text), CONSTRAINT.search(text)
    if constraint and constraint[1] not in ("NONE", "MEMCG"):
        return f"constraint {constraint[1]}"
    if group and not (constraint and constraint[1] == "NONE"):
        return group[1] or group[2]
    is_group = (constraint and constraint[1] == "MEMCG") or "Memory cgroup out of memory" in text
    return "a control group" if is_group else "dom0"


def shortened(lines: Sequence[str]) -> Iterator[str]:
    """Yield a trace without the middle of its table of tasks, and no more than a page can have."""
    rows = [at for at, line in enumerate(lines) if ROW.match(line)]
    left_out = {*rows[ROWS:-ROWS]}
    kept = [(at, line) for at, line in enumerate(lines) if at not in left_out]
    if len(kept) > MOST_SHOWN:
        left_out |= {at for at, _ in kept[MOST_SHOWN // 2 : -MOST_SHOWN // 2]}
    gap = 0
    for at, line in enumerate([*lines, ""]):
        if at in left_out:
            gap += 1
            continue
        if gap:
            yield f"({gap:,} lines are left out)"
        gap = 0
        if at < len(lines):
            yield line
