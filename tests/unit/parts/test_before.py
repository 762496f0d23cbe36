# SPDX-License-Identifier: GPL-3.0-or-later
"""What was wrong with dom0 before it died: the tasks that hung, and memory that ran out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pykdump_ext.drgn.locks import Waiter
from pykdump_ext.drgn.tasks import Stuck
from pykdump_ext.parts import happened
from pykdump_ext.parts.before import blocked, end_of_hang, out_of_memory
from pykdump_ext.parts.blocks import Facts, Lines, Paragraph
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.happened import functions, hung_task
from pykdump_ext.parts.last_words import last_words

from .test_happened import DIED
from .test_last_words import FIRST, HUNG, SYSRQ

STACK = ("#0  context_switch (a.c:1:2)", "#1  io_schedule (a.c:1:2)", "#2  folio_wait (b.c:1:2)")
WRITERS = Stuck(("dd (136)", "dd (138)"), 23.5, STACK)
SYNC = Stuck(("sync (148)",), 21.4, ("#0  schedule (a.c:1:2)", "#1  sync_bdevs (b.c:1:2)"))
OPENERS = Stuck(("dd (151)", "dd (152)"), 15.8, ("#0  __mutex_lock (b.c:1:2)",))
TAKEN = Waiter("dd (152)", "semaphore", "1", "last taken by sync (148)")  # it may have it no more
LOCKS = [Waiter(f"dd ({pid})", "mutex", "ffff888008731df8", "sync (148)") for pid in (151, 152)]
GROUPS = [WRITERS, SYNC, OPENERS]


def reports(*pids: int) -> list[str]:
    return [f"[   75.0] INFO: task dd:{pid} blocked for more than 13 seconds." for pid in pids]


@pytest.mark.parametrize(
    ("groups", "locks", "reported", "end"),
    [
        (GROUPS, LOCKS, (136, 138, 148, 151, 152), "dd (136)"),  # longest, not reported last
        (GROUPS, LOCKS, (), "dd (136)"),  # the kernel reports ten, and then no more
        (GROUPS, LOCKS, (151, 152), "sync (148)"),  # who holds what they wait for
        ([OPENERS], LOCKS, (152,), "sync (148)"),  # that one runs, or sleeps
        (GROUPS, [], (152,), "dd (152)"),
        (GROUPS, [TAKEN], (152,), "dd (152)"),
        (GROUPS, [*LOCKS, Waiter("sync (148)", "mutex", "1", "init (1)")], (152,), "init (1)"),
        (GROUPS, LOCKS, (99,), None),  # it is blocked no more
        ([], [], (152,), None),
        (GROUPS, [Waiter("dd (136)", "rw_semaphore", "1", None)], (136,), "dd (136)"),
        # a deadlock has no end
        (
            GROUPS,
            [LOCKS[0], Waiter("sync (148)", "mutex", "1", "dd (151)")],
            (151,),
            "dd (151)",
        ),
    ],
)
def test_the_end_of_a_hang(
    groups: list[Stuck], locks: list[Waiter], reported: tuple[int, ...], end: str | None
) -> None:
    assert end_of_hang(groups, locks, reports(*reported)) == end


def test_who_is_blocked_and_who_waits_for_whom() -> None:
    assert [*blocked(GROUPS, 5, LOCKS)] == [
        "5 tasks were blocked (state D) for up to 23.5 s: dd (136), dd (138), sync (148), dd (151)"
        " and dd (152); dd (136) longest, in folio_wait.",
        "dd (151) and dd (152) wait for sync (148), which waits in sync_bdevs.",
    ]
    deadlock = [LOCKS[0], Waiter("sync (148)", "mutex", "1", "dd (151)")]
    assert [*blocked([SYNC, OPENERS], 3, deadlock)][1] == (
        "dd (151) waits for sync (148), which waits for dd (151);"
        " sync (148) waits for dd (151), which waits for sync (148)."
    )
    # the holder is not blocked; of many tasks some are named
    many = Stuck(tuple(f"dd ({pid})" for pid in range(100, 120)), None, ())
    locks = [Waiter(task, "mutex", "1", "init (1)") for task in many.tasks]
    first, second = blocked([many], 700, locks)
    assert first.startswith("700 tasks were blocked (state D): dd (100), dd (101),")
    assert first.endswith("dd (111) and 688 more.")
    assert second.endswith("dd (111) and 8 more wait for init (1).")
    assert [*blocked([], 0, [])] == []
    assert len([*blocked(GROUPS, 5, [TAKEN])]) == 1


class Found:
    """A case of which the log and the blocked tasks are known."""

    def __init__(self, log: list[str], groups: list[Stuck]) -> None:
        self.log, self.waiters = log, LOCKS
        self.blocked = groups, sum(len(group.tasks) for group in groups)
        self.prog, self.console, self.host = object(), None, None
        self.opened = SimpleNamespace(xen=None, dump=SimpleNamespace(incomplete=None))

    def tried(self, what: str, find: Any) -> Any:
        return find()


def shown(monkeypatch: pytest.MonkeyPatch, found: Found) -> tuple[list[str], dict[str, Any]]:
    """Return the paragraphs of the first part, and its facts."""

    def stacks(case: Any, prog: Any, death: Any, words: Any, hung: int | None) -> list[Lines]:
        stack = [["#0  schedule (a.c:1:2)", f"#1  waits_{hung} (b.c:1:2)"]] if hung else []
        return [Lines(f"Stack of the task that hung: {hung}", lines) for lines in stack]

    def facts(self: Any, case: Any, death: Any, words: Any, stacks: list[Lines]) -> Any:
        yield "where", functions(death, words, stacks)

    monkeypatch.setattr(happened, "stack_blocks", stacks)
    monkeypatch.setattr(happened.Happened, "_facts", facts)
    monkeypatch.setattr(happened, "who_died", lambda console, host: DIED)
    blocks = [*happened.Happened().blocks(cast(Case, found))]
    (facts_,) = [dict(block.facts) for block in blocks if isinstance(block, Facts)]
    return [block.text for block in blocks if isinstance(block, Paragraph)], facts_


def test_a_hang_is_of_the_task_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = HUNG.splitlines()
    end = [line.replace("dd:152", "dd:136").replace("mutex_lock", "folio") for line in victim[:12]]
    said, facts = shown(monkeypatch, Found([*end, *victim], GROUPS))
    assert said[2].startswith("5 tasks were blocked") and "wait for sync (148)" in said[3]
    assert facts["where"] == ("__folio", "blkdev_get_by_dev")  # not __mutex_lock
    # the holder was not reported: its own stack says it
    said, facts = shown(monkeypatch, Found(victim, GROUPS))
    assert facts["where"] == ("waits_148",)
    # nothing is blocked any more: what the log has
    said, facts = shown(monkeypatch, Found(victim, []))
    assert len(said) == 2 and facts["where"] == ("__mutex_lock", "blkdev_get_by_dev")
    assert hung_task(cast(Case, Found(victim, []))) is None


@pytest.mark.parametrize(("seconds", "said"), [(9.9, 0), (10.0, 1), (None, 0)])
def test_what_a_crash_that_somebody_asked_for_hides(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, said: int
) -> None:
    found = Found([*FIRST, *SYSRQ], [Stuck(("cat (7)",), seconds, STACK)])
    found.waiters = []
    texts, _ = shown(monkeypatch, found)
    sentence = (
        "1 task was blocked (state D) for up to 10.0 s: cat (7); cat (7) longest, in folio_wait."
    )
    assert [text for text in texts if "blocked" in text] == [sentence] * said


def test_a_hung_task_is_chosen_by_its_pid() -> None:
    log = [*reports(15, 151, 152), "[ 76.0] Kernel panic - not syncing: hung_task: blocked tasks"]
    assert [last_words(log, pid).hung for pid in (15, 151, None, 5)] == [15, 151, 152, None]


TABLE = """
[  315.967933] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[  315.968000] [      1]     0     1      560       72    45056        0             0 init
[  316.055569] [    129]     0   129   203318   134232  1122304        0         -1000 my awk
"""
LINE = "[  316.055569] Out of memory: Killed process 129 (my awk) total-vm:813272kB, anon-rss:5kB"
END = "[  324.4] sysrq: Trigger a crash"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            f"{LINE}\n{END}",
            "dom0 ran out of memory 8.3 s before the end of its log, and my awk (129) was killed.",
        ),
        (
            f"[  316.0] oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/a,task=awk\n{LINE}",
            "dom0's control group /a ran out of memory 0.0 s before the end of its log,"
            " and my awk (129) was killed.",
        ),
        (
            "[  316.1] Kernel panic - not syncing: Out of memory: panic_on_oom is enabled",
            "Of the processes my awk (129) had the most memory: 536,928 KiB.",
        ),
        ("[  316.1] Kernel panic - not syncing: sysrq triggered crash", None),  # of something else
        (END, None),  # who was killed is lost
    ],
)
def test_how_memory_ran_out(lines: str, said: str | None) -> None:
    log = ["[  315.3] awk invoked oom-killer: order=0", *TABLE.split("\n"), *lines.split("\n")]
    assert [*out_of_memory([line for line in log if line])] == [said] * (said is not None)
    assert [*out_of_memory([END])] == []
