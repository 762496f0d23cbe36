# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that waits in a kernel's workqueues, by drgn's helpers for lists and per-cpu variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import drgn

from ..errors import printable
from .helpers import FAULTS, linux

__all__ = ["Waiting", "waiting"]

MOST_WORKS = 10_000  # of one pool; more is a damaged list


@dataclass(frozen=True)
class Waiting:
    """Work of one function that waits in a cpu's pool of workers.

    ``seconds`` is how long ago the pool last began any work, None before Linux 4.5
    (82607adcf9cd), which does not note it.
    """

    cpu: int
    function: str
    number: int
    seconds: float | None


def waiting(prog: drgn.Program) -> Iterator[Waiting]:
    """Yield the work that waits for a worker of a cpu, and has none yet.

    :raises LookupError: the kernel has no such pools.
    """
    pools = prog["cpu_worker_pools"]
    for cpu in linux.for_each_present_cpu(prog):
        for pool in linux.per_cpu(pools, cpu):
            found: Counter[str] = Counter()
            works = linux.list_for_each_entry(
                "struct work_struct", pool.worklist.address_of_(), "entry"
            )
            for work in works:
                found[name_of(work.func)] += 1
                if sum(found.values()) >= MOST_WORKS:
                    break
            for function, number in found.items():
                yield Waiting(cpu, function, number, since(pool))


def name_of(function: drgn.Object) -> str:
    """Return the name of a function, or its address."""
    try:
        return printable(function.prog_.symbol(function.value_()).name)
    except FAULTS:
        return f"{function.value_():x}"


def since(pool: drgn.Object) -> float | None:
    """Return the seconds since a pool last began any work, or None where it is not noted."""
    prog = pool.prog_
    try:
        ticks = (prog["jiffies"] - pool.watchdog_ts).value_()
        return float(ticks * prog["tick_nsec"].value_() / 1e9)
    except FAULTS:
        return None
