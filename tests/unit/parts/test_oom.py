# SPDX-License-Identifier: GPL-3.0-or-later
"""Traces of memory that ran out, as Linux 3.10 to 6.1 print them: whose it was, and the kill."""

from __future__ import annotations

import pytest

from pykdump_ext.parts.oom import MOST_SHOWN, last_of_each, shortened


def trace(at: int, end: list[str], tasks: int = 3, more: int = 10) -> list[str]:
    stamp = f"[{at:5}.000000]"
    return [
        f"{stamp} java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        *(f"{stamp}  function_{number}+0x1/0x2" for number in range(more)),
        f"{stamp} Tasks state (memory values in pages):",
        f"{stamp} [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents name",
        *(
            f"{stamp} [{n:7}]     0 {n:5}      565       {n}    28672        0  0 sh"
            for n in range(tasks)
        ),
        *(f"{stamp} {line}" for line in end),
    ]


GLOBAL = [
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/user.slice,task=java,pid=129,uid=0",
    "Out of memory: Killed process 129 (java) total-vm:813272kB, anon-rss:535716kB",
]
GROUP = [
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/docker/f00,task_memcg=/docker/f00/bar,task=java,pid=129,uid=0",
    "Memory cgroup out of memory: Killed process 129 (java) total-vm:813272kB",
]
CPUSET = [GLOBAL[0].replace("_NONE", "_CPUSET"), GLOBAL[1]]
GLOBAL_3_10 = [
    "Out of memory: Kill process 129 (java) score 900 or sacrifice child",
    "Killed process 129 (java) total-vm:813272kB, anon-rss:535716kB, file-rss:0kB",
]
GROUP_3_10 = [
    "Memory cgroup out of memory: Kill process 129 (java) score 900 or sacrifice child",
    "Killed process 129 (java) total-vm:813272kB, anon-rss:535716kB, file-rss:0kB",
]
TASK_IN = "Task in /lxc/a killed as a result of limit of /lxc"
COMPULSORY = ["Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled"]


@pytest.mark.parametrize(
    ("end", "whose"),
    [
        (GLOBAL, "dom0"),
        (GROUP, "/docker/f00"),
        (CPUSET, "constraint CPUSET"),
        (GLOBAL_3_10, "dom0"),
        ([TASK_IN, *GROUP_3_10], "/lxc"),
        (GROUP_3_10, "a control group"),
        (COMPULSORY, "dom0"),
    ],
)
def test_whose_memory_ran_out(end: list[str], whose: str) -> None:
    lines = trace(7, end)
    (found,) = last_of_each(["[1.0] before", *lines, "[8.0] oom_reaper: reaped process 129"])
    assert found.whose == whose
    assert [*found.lines] == lines  # up to the kill, and nothing behind it
    assert [*shortened(found.lines)] == lines


def test_the_last_of_each_kind_is_shown() -> None:
    log = [*trace(1, GLOBAL), *trace(2, GROUP), *trace(3, GLOBAL), *trace(4, GROUP), "[9.0] end"]
    found = last_of_each(log)
    assert [(one.whose, one.lines[0][:10]) for one in found] == [
        ("dom0", "[    3.000"),
        ("/docker/f00", "[    4.000"),
    ]
    assert last_of_each(["[1.0] nothing"]) == []


def test_the_middle_of_the_table_of_tasks_is_left_out_and_the_kill_is_not() -> None:
    lines = trace(7, GLOBAL, tasks=9000)
    (found,) = last_of_each(lines)
    shown = [*shortened(found.lines)]
    assert shown[-2:] == lines[-2:] and shown[0] == lines[0]
    assert len(shown) < 50 and "(8,980 lines are left out)" in shown
    assert [line for line in shown if not line.startswith("(")] == [
        line for line in lines if line in shown
    ]


def test_a_trace_whose_end_is_lost_ends_where_the_next_begins() -> None:
    first, second = trace(1, []), trace(2, GLOBAL)
    (found,) = last_of_each([*first, *second])
    assert [*found.lines] == second
    (found,) = last_of_each([*second, *trace(3, [], more=5000)])
    assert found.lines[0].startswith("[    3.0") and len(found.lines) == 100


def test_a_very_long_trace_is_cut_in_the_middle() -> None:
    lines = trace(3, GLOBAL, more=1000)
    shown = [*shortened(lines)]
    assert (
        len(shown) == MOST_SHOWN + 1
        and f"({len(lines) - MOST_SHOWN:,} lines are left out)" in shown
    )
    assert (shown[0], shown[-1]) == (lines[0], lines[-1])
