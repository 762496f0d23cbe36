# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls whose answer depends on the kernel and on the programs that the lab's machine runs."""

from __future__ import annotations

from collections.abc import Mapping

from .machine import (
    PAGE,
    Call,
    banner,
    caches,
    h,
    helper,
    init,
    named,
    names,
    programs,
    tasks,
    virtio,
)

OF_PROGRAM = (
    "get_kconfig",
    "kaslr_offset",
    "pgtable_l5_enabled",
    "for_each_possible_cpu",
    "num_present_cpus",
    "for_each_online_node",
    "nr_node_ids",
    "memory_block_size_bytes",
    "hugetlb_total_pages",
    "signal_names",
    "signal_numbers",
    "sigaction_flags",
    "timer_base_names",
    "bpf_prog_for_each",
    "bpf_map_for_each",
    "nr_blockdev_pages",
    "for_each_sysv_shm",
    "for_each_swap_info",
    "panic_message",
    "tainted",
)
SAME: Mapping[str, Call] = {
    **{name: helper(name) for name in OF_PROGRAM},
    "UTS_RELEASE": lambda p: p["UTS_RELEASE"].string_(),
    "constants": lambda p: [p["PAGE_SIZE"], p["PAGE_SHIFT"], p["PAGE_MASK"], p["THREAD_SIZE"]],
    "VMCOREINFO": lambda p: p["VMCOREINFO"].string_().splitlines()[:2],
    "linux_banner": lambda p: p.read_c_string(banner(p)),
    "symbol": lambda p: p.symbol(banner(p)).name,
    "identify_address of a function": lambda p: h.identify_address(p, p.symbol("panic").address),
    "load_vmlinux_kallsyms": lambda p: len(list(p.symbols("vfs_read"))),
    "module_kallsyms": lambda p: sorted({s.name for s in h.module_kallsyms(virtio(p))}),
    "module_taints": lambda p: h.module_taints(virtio(p)),
    "find_module": lambda p: h.find_module(p, "virtio_pci").name,
    "for_each_module": lambda p: sorted(m.name.string_() for m in h.for_each_module(p)),
    "cpu_possible_mask": lambda p: h.cpumask_to_cpulist(h.cpu_possible_mask(p)),
    "zones": lambda p: [z.name.string_() for z in h.NODE_DATA(p, 0).node_zones],
    "decode_section_flags": lambda p: {h.decode_section_flags(s) for _, s in sections(p)},
    "for_each_hstate": lambda p: [h.huge_page_size(state) for state in h.for_each_hstate(p)],
    "decode_page_flags": lambda p: h.decode_page_flags(slab_page(p)),
    "decode_page_flags_value": lambda p: h.decode_page_flags_value(p, 0x1234),
    "page_size": lambda p: h.page_size(slab_page(p)),
    "compound_order": lambda p: h.compound_order(slab_page(p)),
    "PageSlab": lambda p: h.PageSlab(slab_page(p)),
    "for_each_slab_cache": lambda p: sorted(caches(p)),
    "find_slab_cache": lambda p: h.find_slab_cache(p, "dentry").object_size,
    "slab_cache_objects_per_slab": lambda p: h.slab_cache_objects_per_slab(caches(p)["dentry"]),
    "slab_cache_order": lambda p: h.slab_cache_order(caches(p)["task_struct"]),
    "slab_cache_is_merged": lambda p: h.slab_cache_is_merged(caches(p)["task_struct"]),
    "for_each_mount": lambda p: sorted(h.mount_dst(m) for m in h.for_each_mount(p)),
    "mount_fstype": lambda p: [h.mount_fstype(m) for m in h.for_each_mount(p, dst="/tmp")],
    "path_lookup": lambda p: h.dentry_path(h.path_lookup(p, "/bin/busybox").dentry),
    "size of a file": lambda p: h.path_lookup(p, "/bin/busybox").dentry.d_inode.i_size,
    "inode_path": lambda p: h.inode_path(h.path_lookup(p, "/tmp/file").dentry.d_inode),
    "decode_file_type": lambda p: h.decode_file_type(
        h.path_lookup(p, "/dev/null").dentry.d_inode.i_mode
    ),
    "for_each_file": lambda p: [h.d_path(f.f_path) for _, f in h.for_each_file(named(p, "sh"))],
    "cmdline": lambda p: sorted(tuple(h.cmdline(t) or ()) for t in programs(p)),
    "environ": lambda p: sorted(tuple(h.environ(t) or ()) for t in programs(p)),
    "mm_cmdline": lambda p: h.mm_cmdline(init(p).mm),
    "vma_name": lambda p: [h.vma_name(v) for v in h.for_each_vma(init(p).mm)],
    "sizes of vmas": lambda p: [
        (h.vma_name(v), (v.vm_end - v.vm_start).value_() // PAGE)
        for v in h.for_each_vma(named(p, "sleep").mm)
        if h.vma_name(v) == b"/bin/busybox"
    ],
    "code of a program": lambda p: h.access_process_vm(
        named(p, "sleep"), named(p, "sleep").mm.start_code, 256
    ),
    "for_each_task": lambda p: sorted(t.comm.string_() for t in tasks(p) if is_lasting(t.comm)),
    "task_state_to_char": lambda p: [
        h.task_state_to_char(named(p, name)) for name in ("sleep", "nc", "kthreadd", "rcu_gp")
    ],
    "get_task_state": lambda p: h.get_task_state(named(p, "sleep")),
    "stack_trace of a sleeping task": lambda p: names(p, named(p, "sleep")),
    "stack_trace of kthreadd": lambda p: names(p, named(p, "kthreadd")),
    "thread_group_leader": lambda p: h.thread_group_leader(init(p)),
    "task_rlimits": lambda p: [h.task_rlimits(init(p))[name] for name in ("NOFILE", "STACK")],
    "decode_sigset": lambda p: h.decode_sigset(init(p).blocked),
    "sigpending_for_each": lambda p: h.sigpending_for_each(init(p).pending),
    "for_each_netdev": lambda p: [h.netdev_name(dev) for dev in h.for_each_netdev(p)],
    "netdev_get_by_name": lambda p: h.netdev_get_by_name(p, "lo").ifindex,
    "netdev_ipv4_addrs": lambda p: h.netdev_ipv4_addrs(h.netdev_get_by_name(p, "lo")),
    "netdev_ipv6_addrs": lambda p: h.netdev_ipv6_addrs(h.netdev_get_by_name(p, "lo")),
    "for_each_net": lambda p: len(list(h.for_each_net(p))),
    "sockets": lambda p: [s.sk.__sk_common.skc_family for s in sockets(p, "nc")],
    "sk_tcpstate": lambda p: [str(h.sk_tcpstate(s.sk)) for s in sockets(p, "nc")],
    "cgroup_path": lambda p: h.cgroup_path(p["cgrp_dfl_root"].cgrp.address_of_()),
    "css_for_each_child": lambda p: h.css_for_each_child(
        p["cgrp_dfl_root"].cgrp.self.address_of_()
    ),
    "for_each_registered_blkdev": lambda p: [n for _, n, *_ in h.for_each_registered_blkdev(p)],
    "for_each_disk": lambda p: sorted(h.disk_name(disk) for disk in h.for_each_disk(p)),
    "for_each_partition": lambda p: sorted(h.part_name(part) for part in h.for_each_partition(p)),
    "for_each_pci_dev": lambda p: sorted(h.pci_name(dev) for dev in h.for_each_pci_dev(p)),
    "sysfs_listdir": lambda p: sorted(h.sysfs_listdir(p, "kernel/mm")),
    "kernfs_path": lambda p: h.kernfs_path(h.sysfs_lookup_node(p, "kernel/mm")),
    "find_user": lambda p: h.find_user(p, 0).uid.val,
    "panic_task": lambda p: h.panic_task(p).comm.string_(),
    "crashed_thread": lambda p: p.crashed_thread().name,
    "mutex_owner": lambda p: h.mutex_owner(p["cgroup_mutex"].address_of_()),
    "list_empty": lambda p: h.list_empty(p["super_blocks"].address_of_()),
    "for_each_user": lambda p: [user.uid.val for user in h.for_each_user(p)],
}


def slab_page(prog: object) -> object:
    """Return the first page of a slab."""
    return h.compound_head(h.virt_to_page(init(prog)))


def sections(prog: object) -> list[tuple[int, object]]:
    return list(h.for_each_present_section(prog))


def sockets(prog: object, name: str) -> list:  # type: ignore[type-arg]
    found = [file.f_inode for _, file in h.for_each_file(named(prog, name)) if file]
    return [h.SOCKET_I(inode) for inode in found if h.decode_file_type(inode.i_mode) == "SOCK"]


def is_lasting(comm: object) -> bool:
    """Return True for a task's name that each boot has."""
    return not str(comm).startswith(('(char [16])"kworker', "kworker"))
