# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls whose answer differs from boot to boot in its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from .machine import PAGE, Call, areas, banner, caches, h, helper, init, module_page, named, tasks

OF_PROGRAM = (
    "totalram_pages",
    "nr_free_pages",
    "vm_commit_limit",
    "vm_memory_committed",
    "slab_total_usage",
    "loadavg",
    "uptime",
    "ktime_get_real_seconds",
    "ktime_get_coarse_boottime_ns",
)
ALIKE: Mapping[str, Call] = {
    **{name: helper(name) for name in OF_PROGRAM},
    "virt_to_phys": lambda p: h.virt_to_phys(init(p)),
    "phys_to_virt": lambda p: h.phys_to_virt(p, 0x1000000),
    "page_to_pfn": lambda p: h.page_to_pfn(h.virt_to_page(init(p))),
    "page_to_phys": lambda p: h.page_to_phys(h.virt_to_page(init(p))),
    "pfn_to_page": lambda p: h.pfn_to_page(p, 0x1000),
    "PFN_PHYS": lambda p: h.PFN_PHYS(p, 0x1000),
    "vmalloc_to_page": lambda p: [h.vmalloc_to_page(va.va_start) for va in areas(p)],
    "vmalloc_to_pfn": lambda p: [h.vmalloc_to_pfn(va.va_start) for va in areas(p)],
    "follow_page": lambda p: h.follow_page(init(p).mm, init(p).mm.start_stack),
    "follow_pfn": lambda p: h.follow_pfn(init(p).mm, init(p).mm.start_stack),
    "follow_phys": lambda p: h.follow_phys(p["init_mm"].address_of_(), module_page(p)),
    "access_remote_vm": lambda p: len(h.access_remote_vm(init(p).mm, init(p).mm.start_stack, 16)),
    "physical memory": lambda p: [
        (pfn, hash_of(p.read(pfn * PAGE, PAGE, physical=True)))
        for pfn in range(0x1000, 0x7000, 0x77)
    ],
    "text": lambda p: hash_of(p.read(banner(p) & -PAGE, 64 * PAGE)),
    "page_flags": lambda p: h.page_flags(h.virt_to_page(init(p))),
    "page_index": lambda p: [h.page_index(page) for page in islice(h.for_each_page(p), 5000, 5100)],
    "compound_head": lambda p: h.compound_head(h.virt_to_page(init(p))),
    "global_node_page_state": lambda p: h.global_node_page_state(p, p["NR_FILE_PAGES"]),
    "global_zone_page_state": lambda p: h.global_zone_page_state(p, p["NR_FREE_PAGES"]),
    "global_vm_event_state": lambda p: h.global_vm_event_state(p, p["PGFAULT"]),
    "wmark_pages": lambda p: [h.high_wmark_pages(z) for z in h.NODE_DATA(p, 0).node_zones],
    "task_rss": lambda p: h.task_rss(p, init(p)),
    "task_vsize": lambda p: h.task_vsize(init(p)),
    "percpu_counter_sum": lambda p: h.percpu_counter_sum(p["vm_committed_as"].address_of_()),
    "slab_cache_usage": lambda p: h.slab_cache_usage(caches(p)["dentry"]),
    "for_each_vma": lambda p: [v.vm_start for v in h.for_each_vma(init(p).mm)],
    "for_each_vmap_area": lambda p: [va.va_start for va in h.for_each_vmap_area(p)],
    "idle_task": lambda p: h.idle_task(p, 1),
    "task_since_last_arrival_ns": lambda p: h.task_since_last_arrival_ns(named(p, "sleep")),
    "cpu_curr": lambda p: [h.cpu_curr(p, cpu) for cpu in h.for_each_online_cpu(p)],
    "rq_for_each_fair_task": lambda p: len([*h.rq_for_each_fair_task(h.cpu_rq(p, 0))]) < 100,
    "per_cpu": lambda p: [h.per_cpu(p["runqueues"], cpu).nr_switches for cpu in range(2)],
    "get_dmesg": lambda p: len(h.get_dmesg(p).splitlines()) > 100,
    "get_printk_records": lambda p: [type(r).__name__ for r in h.get_printk_records(p)][:1],
    "dmesg's first line": lambda p: h.get_dmesg(p, timestamps=False).splitlines()[0],
    "text of the log": lambda p: hash_of(h.get_dmesg(p)),
    "for_each_irq_desc": lambda p: [
        (irq, h.irq_desc_action_names(desc), h.irq_desc_chip_name(desc))
        for irq, desc in h.for_each_irq_desc(p)
    ],
    "irq_desc_kstat_cpu": lambda p: [
        h.irq_desc_kstat_cpu(desc, 0) for _, desc in h.for_each_irq_desc(p)
    ],
    "timer_base_for_each": lambda p: [
        len([*h.timer_base_for_each(base)]) for base in h.per_cpu(p["timer_bases"], 0)
    ],
    "hrtimer_clock_base_for_each": lambda p: [
        timer.function
        for timer in h.hrtimer_clock_base_for_each(
            h.per_cpu(p["hrtimer_bases"], 0).clock_base[0].address_of_()
        )
    ],
    "for_each_resource": lambda p: [
        r.name.string_() for r in h.for_each_resource(p["iomem_resource"].address_of_())
    ],
    "for_each_registered_chrdev": lambda p: [name for *_, name, _ in chrdevs(p)],
    "bus_for_each_dev": lambda p: sorted(
        h.dev_name(dev) for dev in h.bus_for_each_dev(p["pci_bus_type"].address_of_())
    ),
    "idr_for_each": lambda p: len([*h.idr_for_each(p["init_pid_ns"].idr.address_of_())]) > 50,
    "xa_for_each": lambda p: h.xa_for_each(
        h.path_lookup(p, "/tmp/file").dentry.d_inode.i_mapping.i_pages.address_of_()
    ),
    "list_for_each_entry": lambda p: [
        sb.s_type.name.string_()
        for sb in h.list_for_each_entry(
            "struct super_block", p["super_blocks"].address_of_(), "s_list"
        )
    ],
    "rbtree_inorder_for_each": lambda p: len(
        [*h.rbtree_inorder_for_each(h.per_cpu(p["runqueues"], 0).cfs.tasks_timeline.rb_root)]
    ),
    "search_memory": lambda p: p.search_memory(b"Linux version "),
    "search_memory_u64": lambda p: p.search_memory_u64(init(p).value_()),
    "search_memory_word": lambda p: p.search_memory_word(p["init_task"].address_ or 0),
    "search_memory_regex": lambda p: p.search_memory_regex(rb"OSRELEASE=\S+"),
    "stack_trace of every task": lambda p: [(t.comm, str(p.stack_trace(t))) for t in tasks(p)],
    "stack_trace of the crash": lambda p: p.crashed_thread().stack_trace(),
    "kernel_stack_trace": lambda p: str(h.kernel_stack_trace(p, named(p, "sleep"))),
    "registers": lambda p: [
        p.stack_trace(h.cpu_curr(p, cpu))[0].registers() for cpu in h.for_each_online_cpu(p)
    ],
    "identify_address": lambda p: [
        h.identify_address(p, at)
        for at in (init(p).value_() + 8, module_page(p), h.virt_to_page(init(p)).value_())
    ],
    "kernfs_children": lambda p: sorted(
        h.kernfs_name(kn) for kn in h.kernfs_children(h.sysfs_lookup_node(p, "bus"))
    ),
    "for_each_pid": lambda p: len([*h.for_each_pid(p)]) > 50,
    "print_annotated_memory": lambda p: h.identify_address_all(p, init(p).value_()),
}


def chrdevs(prog: object) -> list:  # type: ignore[type-arg]
    return list(h.for_each_registered_chrdev(prog))


def hash_of(data: bytes) -> str:
    from hashlib import sha256  # noqa: PLC0415

    return sha256(data).hexdigest()
