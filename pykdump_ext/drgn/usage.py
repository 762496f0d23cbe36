# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a kernel's memory, by drgn: totals, slab caches, processes."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest

import drgn

from .helpers import FAULTS, linux
from .tasks import every_task
from .walks import attempt, each, string

__all__ = ["largest_processes", "largest_slabs", "totals"]

PAGE_KIB = 4
MOST_CACHES = 1 << 16  # with those of each control group, as before Linux 5.9 (9855609bde03)


def totals(prog: drgn.Program) -> dict[str, int | None]:
    """Return the kernel's memory in KiB, by what it is used for; None where it is not known."""

    def node(name: str) -> int:
        return int(linux.global_node_page_state(prog, prog[name]))

    pages: dict[str, Callable[[], int]] = {
        "total": lambda: linux.totalram_pages(prog),
        "free": lambda: linux.nr_free_pages(prog),
        "page cache": lambda: node("NR_FILE_PAGES"),
        "anonymous": lambda: node("NR_ANON_MAPPED"),
        "dirty": lambda: node("NR_FILE_DIRTY"),
        "under writeback": lambda: node("NR_WRITEBACK"),
        "slab": lambda: linux.slab_total_usage(prog).total_pages,
        "slab, unreclaimable": lambda: linux.slab_total_usage(prog).unreclaimable_pages,
        "committed": lambda: linux.vm_memory_committed(prog),
    }
    found: dict[str, int | None] = {}
    for name, read in pages.items():
        try:
            found[name] = read() * PAGE_KIB
        except FAULTS:
            found[name] = None
    return found


def largest_slabs(
    prog: drgn.Program, most: int, notes: list[str]
) -> list[tuple[str, int, int, int]]:
    """Return the largest slab caches: name, KiB, objects in use, all objects."""

    def row(cache: drgn.Object) -> tuple[str, int, int, int]:
        usage = linux.slab_cache_usage(cache)
        pages = usage.num_slabs * linux.slab_cache_pages_per_slab(cache)
        return string(cache.name), pages * PAGE_KIB, usage.active_objs, usage.num_objs

    caches = each("slab caches", notes, MOST_CACHES, linux.for_each_slab_cache, prog)
    rows = (attempt(f"the slab cache at {cache.value_():x}", notes, row, cache) for cache in caches)
    return nlargest(most, filter(None, rows), key=lambda one: one[1])


def largest_processes(
    prog: drgn.Program, most: int, notes: list[str]
) -> list[tuple[str, int, int, int, int]]:
    """Return the processes with the most resident memory.

    Each has its name, its PID, and KiB: resident, of these shared memory, which also is that of
    files on a tmpfs, and in swap.
    """

    def row(task: drgn.Object) -> tuple[str, int, int, int, int] | None:
        if not task.mm or not linux.thread_group_leader(task):
            return None
        rss = linux.task_rss(prog, task)
        resident, shared, swapped = (n * PAGE_KIB for n in (rss.total, rss.shmem, rss.swap))
        return string(task.comm), task.pid.value_(), resident, shared, swapped

    rows = (
        attempt(f"the memory of the task at {task.value_():x}", notes, row, task)
        for task in every_task(prog, notes)
    )
    return nlargest(most, filter(None, rows), key=lambda one: one[2])
