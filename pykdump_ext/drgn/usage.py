# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a kernel's memory, by drgn: totals, slab caches, processes."""

from __future__ import annotations

from collections.abc import Callable

import drgn

from ..errors import printable
from .helpers import FAULTS, linux

__all__ = ["largest_processes", "largest_slabs", "totals"]

PAGE_KIB = 4


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


def largest_slabs(prog: drgn.Program, most: int) -> list[tuple[str, int, int, int]]:
    """Return the largest slab caches: name, KiB, objects in use, all objects."""
    found = []
    for cache in linux.for_each_slab_cache(prog):
        usage = linux.slab_cache_usage(cache)
        pages = usage.num_slabs * linux.slab_cache_pages_per_slab(cache)
        name = printable(cache.name.string_().decode(errors="replace"))
        found.append((name, pages * PAGE_KIB, usage.active_objs, usage.num_objs))
    return sorted(found, key=lambda one: -one[1])[:most]


def largest_processes(prog: drgn.Program, most: int) -> list[tuple[str, int, int, int, int]]:
    """Return the processes with the most resident memory.

    Each has its name, its PID, and KiB: resident, of these shared memory, which also is that of
    files on a tmpfs, and in swap.
    """
    found = []
    for task in linux.for_each_task(prog):
        if task.mm and linux.thread_group_leader(task):
            rss = linux.task_rss(prog, task)
            name = printable(task.comm.string_().decode(errors="replace"))
            pages = rss.total, rss.shmem, rss.swap
            resident, shared, swapped = (number * PAGE_KIB for number in pages)
            found.append((name, task.pid.value_(), resident, shared, swapped))
    return sorted(found, key=lambda one: -one[2])[:most]
