# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen's scheduler did with each vcpu: its state, and the time that it spent in each state.

``struct vcpu`` has a ``struct vcpu_runstate_info`` (xen/include/public/vcpu.h), at 216 in Xen
4.17 and at 240 in 4.20. It is found by what it must be in the vcpus of all domains: Xen adds
the time of each state when that state ends (``vcpu_runstate_change()``,
xen/common/sched/core.c), so their sum is at most the time of the last change; and a vcpu that a
cpu runs is in the state of running, to which it came at some time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .vcpus import Words

__all__ = ["RUNSTATE_WORDS", "STATES", "Runstate", "find_runstates"]

STATES = ("running", "runnable", "blocked", "offline")  # RUNSTATE_running is 0
FIRST, LAST = 8, 128  # words of struct vcpu in which it begins; before are pointers and timers
SIZE = 6  # words: the state, the time of its last change, four times
RUNSTATE_WORDS = LAST + SIZE  # of struct vcpu, in which it is looked for
LONGEST = 1 << 60  # nanoseconds, 36 years


@dataclass(frozen=True)
class Runstate:
    """A vcpu's state at the crash, and the nanoseconds that it was in each of ``STATES``.

    ``since`` is the time of its last change, in nanoseconds since Xen's start; the times are
    those up to then: Xen adds the time in a state when it ends.
    """

    state: str
    since: int
    times: tuple[int, int, int, int]

    def until(self, now: int) -> Runstate:
        """Return the times up to ``now``, as ``vcpu_runstate_get()`` of Xen gives them.

        :param now: nanoseconds since Xen's start; one before the last change adds nothing.
        """
        times = [*self.times]
        times[STATES.index(self.state)] += max(now - self.since, 0)
        return replace(self, times=(times[0], times[1], times[2], times[3]))

    @property
    def stolen(self) -> int:
        """The nanoseconds that it did not run though it wanted to.

        It is what Linux calls steal time: ``xen_steal_clock()`` of drivers/xen/time.c.
        """
        _, runnable, _, offline = self.times
        return runnable + offline


def find_runstates(vcpus: Sequence[Words], running: Sequence[bool]) -> list[Runstate] | None:
    """Return the runstate of each vcpu, or None if it is not clear where they are.

    :param vcpus: the first ``RUNSTATE_WORDS`` words of each ``struct vcpu``.
    :param running: for each, whether a cpu ran it.
    """
    found: dict[int, int] = {}  # where, and how many of the states agree
    for at in range(FIRST, LAST):
        states = [words[at] for words in vcpus if _fits(words[at : at + SIZE])]
        changed = any(any(words[at + 2 : at + SIZE]) for words in vcpus)  # some may never have run
        ran = all(words[at + 1] for words, runs in zip(vcpus, running) if runs)  # they came to it
        if changed and ran and len(states) == len(vcpus):
            found[at] = sum((state == 0) == runs for state, runs in zip(states, running))
    best = max(found.values(), default=0)
    at, *others = [at for at, agree in found.items() if agree == best] or [0]
    # a cpu may be stopped between two vcpus, so not all need agree
    if others or best * 2 <= len(vcpus):
        return None
    return [
        Runstate(STATES[state], since, (first, second, third, fourth))
        for state, since, first, second, third, fourth in (words[at : at + SIZE] for words in vcpus)
    ]


def _fits(words: Words) -> bool:
    state, since, *times = words
    return state < len(STATES) and since < LONGEST and sum(times) <= since
