# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that waits in a kernel's workqueues, by drgn's helpers for lists and trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import drgn

from .helpers import FAULTS, linux
from .walks import attempt, each, string, text

__all__ = ["Waiting", "waiting"]

MOST_WORKS = 10_000  # of one pool, or of one workqueue in it
MOST_QUEUES = 1 << 16
MOST_POOLS = 1 << 16  # two for each cpu, and those of unbound workqueues
# include/linux/workqueue.h: a work's data is the address of its pool_workqueue if this bit is set;
# the bits below are flags, so many. The newer name is since Linux 6.9 (e9a8e01f9b13)
PWQ = 1 << 2
FLAG_BITS = ("WORK_STRUCT_PWQ_SHIFT", "WORK_STRUCT_FLAG_BITS")
# Works for which their workqueue has no place in its pool yet; the older name is from before
# Linux 5.15 (f97a4a1a3f87)
NOT_YET = ("inactive_works", "delayed_works")
LAST_BEGAN = ("last_progress_ts", "watchdog_ts")  # in jiffies; the newer name is in Linux 7.2
HERTZ = (100, 250, 300, 1000)  # what kernel/Kconfig.hz offers
INITIAL_JIFFIES = (1 << 32, -300)  # less 300 seconds: include/linux/jiffies.h


@dataclass(frozen=True)
class Waiting:
    """Work of one function that waits for a worker.

    ``pool`` has the workers: those of a cpu, or unbound ones. ``seconds`` is how long ago the pool
    last began any work, None before Linux 4.5 (82607adcf9cd), which does not note it.
    """

    queue: str | None
    pool: str
    function: str
    number: int
    seconds: float | None


def waiting(prog: drgn.Program, notes: list[str]) -> Iterator[Waiting]:
    """Yield the work that waits for a worker, and has none yet.

    :raises LookupError: the kernel has no such pools, as before Linux 3.9.
    """
    pools = each("pools of workers", notes, MOST_POOLS, _pools, prog)
    for pool in pools:
        what = f"the pool of workers at {pool.value_():x}"
        yield from attempt(what, notes, _queued, pool, notes) or ()
    queues = each(
        "workqueues",
        notes,
        MOST_QUEUES,
        linux.list_for_each_entry,
        "struct workqueue_struct",
        prog["workqueues"].address_of_(),
        "list",
    )
    for queue in queues:
        what = f"the workqueue at {queue.value_():x}"
        yield from attempt(what, notes, _held, queue, notes) or ()


def _pools(prog: drgn.Program) -> Iterator[drgn.Object]:
    """Yield all pools of workers: those of cpus, and unbound ones."""
    tree = prog["worker_pool_idr"].address_of_()
    for _, pool in linux.idr_for_each_entry(tree, "struct worker_pool"):
        yield pool


def _queued(pool: drgn.Object, notes: list[str]) -> list[Waiting]:
    """Return the work that a pool of workers has not begun."""
    found: Counter[tuple[str | None, str]] = Counter()
    for work in _works(pool.worklist, f"work of the pool at {pool.value_():x}", notes):
        try:
            found[_queue_of(work), _function(work.func)] += 1
        except FAULTS:
            found[None, "unknown"] += 1
    name, since = _name(pool), _since(pool)
    return [Waiting(queue, name, work, number, since) for (queue, work), number in found.items()]


def _held(queue: drgn.Object, notes: list[str]) -> list[Waiting]:
    """Return the work that a workqueue holds back, because it has enough work in a pool."""
    waits = []
    name = string(queue.name)
    places = each(
        f"pools of the workqueue {name}",
        notes,
        MOST_POOLS,
        linux.list_for_each_entry,
        "struct pool_workqueue",
        queue.pwqs.address_of_(),
        "pwqs_node",
    )
    for place in places:
        held = next(place.member_(one) for one in NOT_YET if hasattr(place, one))
        found = Counter(_function(w.func) for w in _works(held, f"work of {name}", notes))
        pool, since = f"{_name(place.pool)}, workqueue at its limit", _since(place.pool)
        waits += [Waiting(name, pool, work, number, since) for work, number in found.items()]
    return waits


def _works(head: drgn.Object, what: str, notes: list[str]) -> Iterator[drgn.Object]:
    return each(
        what,
        notes,
        MOST_WORKS,
        linux.list_for_each_entry,
        "struct work_struct",
        head.address_of_(),
        "entry",
    )


def _queue_of(work: drgn.Object) -> str | None:
    """Return the name of the workqueue that a work was put into, or None."""
    data = work.data.counter.value_()
    if not data & PWQ:
        return None
    prog = work.prog_
    bits = next(prog[name].value_() for name in FLAG_BITS if name in prog)
    address = (data & (1 << 64) - 1) >> bits << bits
    place = drgn.Object(prog, "struct pool_workqueue *", address)
    try:
        return string(place.wq.name)
    except FAULTS:
        return None


def _name(pool: drgn.Object) -> str:
    """Return a name for a pool of workers."""
    cpu, nice = pool.cpu.value_(), pool.attrs.nice.value_()
    name = f"unbound, pool {pool.id.value_()}" if cpu < 0 else f"vcpu {cpu}"
    if "POOL_BH" in pool.prog_ and pool.flags & pool.prog_["POOL_BH"]:
        name += ", by softirqs"  # since Linux 6.9 (4cb1ef64609f)
    return f"{name}, nice {nice}" if nice else name


def _function(function: drgn.Object) -> str:
    """Return the name of a function, or its address."""
    try:
        return text(function.prog_.symbol(function.value_()).name.encode())
    except FAULTS:
        return f"{function.value_():x}"


def _since(pool: drgn.Object) -> float | None:
    """Return the seconds since a pool last began any work, or None where it is not noted."""
    try:
        began = next((pool.member_(name) for name in LAST_BEGAN if hasattr(pool, name)), None)
        if began is None:
            return None
        return float((pool.prog_["jiffies"] - began).value_() * _tick(pool.prog_))
    except FAULTS:
        return None


def _tick(prog: drgn.Program) -> float:
    """Return the seconds that a jiffy has.

    Newer kernels have no variable for it, as 7.2: there the jiffies since the start of the kernel
    are compared with the seconds.
    """
    if "tick_nsec" in prog:
        return float(prog["tick_nsec"].value_() / 1e9)
    uptime = linux.uptime(prog)
    zero, seconds = INITIAL_JIFFIES
    jiffies = prog["jiffies_64"].value_() - zero
    return 1 / min(HERTZ, key=lambda hertz: abs(jiffies / hertz - seconds - uptime))
