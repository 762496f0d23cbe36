# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that agree with each other on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import drgn

from .machine import (
    PAGE,
    Call,
    agree,
    areas,
    banner,
    caches,
    fault,
    file_pages,
    h,
    init,
    module_page,
    named,
    names,
    physical,
    programs,
    tasks,
    user_pages,
)

ENTRIES = {"ret_from_fork", "ret_from_fork_asm", "entry_SYSCALL_64"}
ENTRIES |= {"entry_SYSCALL_64_after_hwframe", "secondary_startup_64", "asm_cpu_bringup_and_idle"}
NOWHERE, TOO_HIGH = 0xFFFFA00000000000, 1 << 44


def kernel(prog: drgn.Program) -> Any:
    return prog["init_mm"].address_of_()


def addresses(prog: drgn.Program) -> tuple[int, ...]:
    """Return addresses of the kernel's constants, its data, a task and a module."""
    return banner(prog), prog["init_task"].address_ or 0, init(prog).value_(), module_page(prog)


# Of a task
PER_TASK: Mapping[str, Any] = {
    "virt_to_phys": lambda p, t: (
        p.read(int(h.virt_to_phys(t)), 256, physical=True),
        p.read(t.value_(), 256),
    ),
    "virt_to_phys and follow_phys": lambda p, t: (h.virt_to_phys(t), h.follow_phys(kernel(p), t)),
    "phys_to_virt": lambda p, t: (h.phys_to_virt(h.virt_to_phys(t)).value_(), t.value_()),
    "virt_to_pfn": lambda p, t: (h.virt_to_pfn(t), h.page_to_pfn(h.virt_to_page(t))),
    "pfn_to_virt": lambda p, t: (h.pfn_to_virt(h.virt_to_pfn(t)).value_(), t.value_() & -PAGE),
    "pfn_to_page": lambda p, t: (h.pfn_to_page(h.virt_to_pfn(t)), h.virt_to_page(t)),
    "phys_to_page": lambda p, t: (h.phys_to_page(h.virt_to_phys(t)), h.virt_to_page(t)),
    "page_to_virt": lambda p, t: (h.page_to_virt(h.virt_to_page(t)).value_(), t.value_() & -PAGE),
    "in_direct_map": lambda p, t: (h.in_direct_map(t), True),
    "find_containing_slab_cache": lambda p, t: (
        h.find_containing_slab_cache(t).name.string_(),
        b"task_struct",
    ),
    "slab_object_info": lambda p, t: (
        (h.slab_object_info(t).address, h.slab_object_info(t).allocated),
        (t.value_(), True),
    ),
    "identify_address": lambda p, t: (
        h.identify_address(t).startswith(("task: ", "slab object: task_struct+0x0 ")),
        True,
    ),
    "find_pid": lambda p, t: (h.find_pid(p, t.pid), t.thread_pid),
    "find_task": lambda p, t: (h.find_task(p, t.pid), t),
    "thread": lambda p, t: (p.thread(int(t.pid)).object, t),
    "task_rq": lambda p, t: (h.task_rq(t), h.cpu_rq(p, h.task_cpu(t))),
    "kthread": lambda p, t: (h.task_is_kthread(t), not t.mm),
    "stack_trace": lambda p, t: (bool(ENTRIES & {*names(p, t)}) or (t.comm, names(p, t)), True),
}

# Of a page of a program
PER_USER_PAGE: Mapping[str, Any] = {
    "follow_page": lambda p, mm, at: (
        physical(p, h.follow_page(mm, at)),
        h.access_remote_vm(mm, at, PAGE),
    ),
    "follow_pfn": lambda p, mm, at: (int(h.follow_pfn(mm, at)) * PAGE, int(h.follow_phys(mm, at))),
    "follow_phys": lambda p, mm, at: (
        p.read(int(h.follow_phys(mm, at)) + 8, 80, physical=True),
        h.access_remote_vm(mm, at + 8, 80),
    ),
    "page_to_virt of a user page": lambda p, mm, at: (
        p.read(int(h.page_to_virt(h.follow_page(mm, at))), PAGE),
        h.access_remote_vm(mm, at, PAGE),
    ),
    "vma_find": lambda p, mm, at: (h.vma_find(mm, at).vm_start <= at, True),
}

# Of an area of vmalloc(); the first page of each, and the kernel's own list of its pages
PER_AREA: Mapping[str, Any] = {
    "vmalloc_to_page": lambda p, va: (
        physical(p, h.vmalloc_to_page(va.va_start)),
        p.read(int(va.va_start), PAGE),
    ),
    "vmalloc_to_pfn": lambda p, va: (
        h.vmalloc_to_pfn(va.va_start),
        h.page_to_pfn(va.vm.pages[0]),
    ),
    "pages of an area": lambda p, va: (h.vmalloc_to_page(va.va_start), va.vm.pages[0]),
    "find_vmap_area": lambda p, va: (h.find_vmap_area(va.va_start), va),
    "in_direct_map of an area": lambda p, va: (h.in_direct_map(va.va_start), False),
}

# Pairs of values
PAIRS: Mapping[str, Any] = {
    "follow_phys of the kernel": lambda p: (
        (p.read(int(h.follow_phys(kernel(p), at)), 64, physical=True), p.read(at, 64))
        for at in addresses(p)
    ),
    "follow_page of a module": lambda p: [
        (physical(p, h.follow_page(kernel(p), module_page(p))), p.read(module_page(p), PAGE))
    ],
    "access_process_vm": lambda p: (
        (h.access_process_vm(t, t.mm.arg_start, 16), h.access_remote_vm(t.mm, t.mm.arg_start, 16))
        for t in programs(p)
    ),
    "physical memory and direct map": lambda p: (
        (p.read(pfn * PAGE, PAGE, physical=True), p.read(int(h.pfn_to_virt(p, pfn)), PAGE))
        for pfn in range(0x1000, 0x7000, 0x33)
    ),
    "page tables of programs": lambda p: (
        (p.read(int(t.mm.pgd), PAGE), p.read(int(h.virt_to_phys(t.mm.pgd)), PAGE, physical=True))
        for t in programs(p)
    ),
    "top table of the kernel": lambda p: [
        (
            p.read(int(p["init_mm"].pgd), PAGE),
            p.read(int(h.follow_phys(kernel(p), p["init_mm"].pgd)), PAGE, physical=True),
        )
    ],
    "inode_for_each_page": lambda p: (
        (physical(p, page), p.read(int(h.page_to_virt(page)), PAGE)) for page in file_pages(p)
    ),
    "slab_cache_for_each_allocated_object": lambda p: [
        ({t.value_() for t in tasks(p)} - {t.value_() for t in allocated(p, "task_struct")}, set())
    ],
    "slab_cache_usage": lambda p: (
        (
            len([*allocated(p, name)])  # and those on the lists of each cpu
            <= h.slab_cache_usage(caches(p)[name]).num_objs
            - h.slab_cache_usage(caches(p)[name]).free_objs,
            True,
        )
        for name in ("task_struct", "mm_struct", "dentry")
    ),
    "search_memory": lambda p: (
        (p.read(at, 14), b"Linux version ") for at in p.search_memory(b"Linux version ")
    ),
    "search_memory_u64": lambda p: (
        (p.read_u64(at), value) for at, value in p.search_memory_u64(init(p).value_())
    ),
    "search_memory of an object": lambda p: (
        (p.read_u64(at), init(p).value_()) for at in p.search_memory(init(p))
    ),
    "search_memory_regex": lambda p: (
        (p.read(at, len(found)), found) for at, found in p.search_memory_regex(rb"OSRELEASE=\S+")
    ),
    "search_memory finds each task's name": lambda p: [
        (named(p, "sleep").comm.address_ in [*p.search_memory(b"sleep\0")], True)
    ],
    "NODE_DATA": lambda p: (
        (h.NODE_DATA(p, node), p["node_data"][node]) for node in h.for_each_online_node(p)
    ),
    "totalram_pages": lambda p: [
        (
            sum(int(z.managed_pages.counter) for z in h.NODE_DATA(p, 0).node_zones),
            h.totalram_pages(p),
        )
    ],
    "for_each_page": lambda p: (
        (h.pfn_to_page(h.page_to_pfn(page)), page)
        for page in islice(h.for_each_page(p), 0, None, 1111)
    ),
    "for_each_valid_pfn_and_page": lambda p: (
        (h.pfn_to_page(p, pfn), page)
        for pfn, page in islice(h.for_each_valid_pfn_and_page(p), 0, None, 1111)
    ),
    "for_each_present_section": lambda p: (
        (h.nr_to_section(p, nr), section) for nr, section in h.for_each_present_section(p)
    ),
    "per_cpu": lambda p: (
        (int(h.per_cpu(p["runqueues"], cpu).cpu), cpu) for cpu in h.for_each_online_cpu(p)
    ),
    "cpu_curr": lambda p: (
        (h.cpu_curr(p, cpu), h.cpu_rq(p, cpu).curr) for cpu in h.for_each_online_cpu(p)
    ),
    "threads": lambda p: [({t.tid for t in p.threads()}, {int(t.pid) for t in tasks(p)})],
    "mt_for_each": lambda p: (
        (len([*h.mt_for_each(t.mm.mm_mt.address_of_())]), int(t.mm.map_count)) for t in programs(p)
    ),
    "for_each_vma": lambda p: (
        (len([*h.for_each_vma(t.mm)]), int(t.mm.map_count)) for t in programs(p)
    ),
    "address_to_module": lambda p: (
        (h.address_to_module(p, module.value_()), module) for module in h.for_each_module(p)
    ),
    "clock and CRASHTIME": lambda p: [
        (abs(crash_time(p) - int(h.ktime_get_real_seconds(p))) < 60, 1)
    ],
    "an address that is not mapped": lambda p: [
        (fault(lambda: p.read(NOWHERE, 8)), f"a fault at {NOWHERE:x}")
    ],
    "an address above all memory": lambda p: [
        (fault(lambda: p.read(TOO_HIGH, 8, physical=True)), f"a fault at {TOO_HIGH:x}")
    ],
    "a null pointer": lambda p: [(fault(lambda: p.read(0, 8)), "a fault at 0")],
}


def allocated(prog: drgn.Program, name: str) -> Any:
    return h.slab_cache_for_each_allocated_object(caches(prog)[name], f"struct {name}")


def crash_time(prog: drgn.Program) -> int:
    return int(prog["VMCOREINFO"].string_().partition(b"CRASHTIME=")[2].split()[0])


def _all() -> dict[str, Call]:
    calls: dict[str, Call] = {}

    def add(name: str, pairs: Any) -> None:
        calls[name] = lambda prog: agree(pairs(prog))

    for name, pair in PER_TASK.items():
        add(name, lambda p, pair=pair: (pair(p, t) for t in tasks(p)))
    for name, pair in PER_USER_PAGE.items():
        add(name, lambda p, pair=pair: (pair(p, mm, at) for mm, at in user_pages(p)))
    for name, pair in PER_AREA.items():
        add(name, lambda p, pair=pair: (pair(p, va) for va in areas(p)))
    for name, pairs in PAIRS.items():
        add(name, pairs)
    return calls


AGREE = _all()
