# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn on the truncated dump, compared with what crash prints on the untouched one."""

from __future__ import annotations

import re
import struct

import drgn
import pytest
from drgn.helpers.linux.fs import for_each_file, for_each_mount, mount_dst
from drgn.helpers.linux.mm import (
    access_process_vm,
    cmdline,
    follow_phys,
    for_each_vma,
    page_to_virt,
    phys_to_virt,
    totalram_pages,
    virt_to_page,
    virt_to_phys,
    vma_name,
)
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import idle_task, task_cpu, task_state_to_char
from drgn.helpers.linux.slab import (
    find_containing_slab_cache,
    for_each_slab_cache,
    slab_cache_for_each_allocated_object,
)

from pykdump_ext.drgn import program
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.native.memory import NativeMemory
from tests.lab.broken import diagnosis
from tests.lab.dump import Dump
from tests.lab.matrix import KERNELS
from tests.lab.matrix import untouched as whole_dump
from tests.lab.packages import Missing

from .counted import rows

CPUS = range(4)


STATES = {"RU": "R", "IN": "S", "UN": "D", "ID": "I", "ST": "T", "TR": "t", "ZO": "Z"}
"""A task's state as crash names it, and as the kernel and drgn do."""


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_time_of_the_crash_is_the_kernels_own(kernel: str) -> None:
    try:
        dump = whole_dump(kernel)
    except Missing as error:
        pytest.skip(str(error))
    console = dump.vmcore.with_name("console.log").read_text(errors="replace")
    (start,) = re.findall(r"setting system clock to .*\((\d+)\)", console)[:1]
    text = program(dump.vmcore, dump.vmlinux)["VMCOREINFO"].string_().decode()
    (crashed,) = re.findall(r"^CRASHTIME=(\d+)$", text, re.MULTILINE)
    assert 0 < int(crashed) - int(start) < 3600


def test_tasks_modules_and_log_are_those_of_crash(
    prog: drgn.Program, crash_says: dict[str, str]
) -> None:
    tasks = {
        (t.pid.value_(), task_cpu(t), t.value_(), task_state_to_char(t), t.comm.string_().decode())
        for t in [*for_each_task(prog), *(idle_task(prog, cpu) for cpu in CPUS)]
    }
    assert tasks == {
        (int(pid), int(cpu), int(task, 16), STATES[state], comm)
        for pid, _, cpu, task, state, comm in rows(crash_says["ps"])
    }
    listed = re.findall(
        r'^(\w{16})\n  pid = (\d+),\n  comm = "([^\\"]+)',
        crash_says["list task_struct.tasks -s task_struct.pid,comm -h init_task"],
        re.MULTILINE,
    )
    assert len(listed) > 60
    leaders = {
        (t.value_(), t.pid.value_(), t.comm.string_().decode())
        for t in for_each_task(prog)
        if t.pid == t.tgid
    }
    assert {(int(a, 16), int(pid), comm) for a, pid, comm in listed if pid != "0"} == leaders

    modules = re.findall(r"^(\w{16})\s+(\S+)\s+(\w{16})\s", crash_says["mod"], re.MULTILINE)
    assert len(modules) == 8
    assert {
        (m.value_(), m.name.string_().decode(), m.core_layout.base.value_())
        for m in for_each_module(prog)
    } == {(int(address, 16), name, int(base, 16)) for address, name, base in modules}
    assert get_dmesg(prog).decode() == crash_says["log"]


def test_per_cpu_data_mounts_files_and_caches_are_those_of_crash(
    prog: drgn.Program, crash_says: dict[str, str]
) -> None:
    queues = re.findall(
        r"nr_running = (\d+),\n  nr_switches = (\d+),\n  curr = 0x(\w+)",
        crash_says["rq.nr_running,nr_switches,curr runqueues:a"],
    )
    shown = [per_cpu(prog["runqueues"], cpu) for cpu in CPUS]
    assert [(int(n), int(s), int(task, 16)) for n, s, task in queues] == [
        (rq.nr_running.value_(), rq.nr_switches.value_(), rq.curr.value_()) for rq in shown
    ]
    mounts = re.findall(r"^(\w{16}) \w{16} \S+\s+\S+\s+(\S+)", crash_says["mount"], re.MULTILINE)
    assert len(mounts) == 6
    assert {(m.value_(), mount_dst(m).decode()) for m in for_each_mount(prog)} == {
        (int(address, 16), path) for address, path in mounts
    }
    files = re.findall(r"^\s*(\d+) (\w{16}) ", crash_says["files 1"], re.MULTILINE)
    assert files
    assert [(fd, file.value_()) for fd, file in for_each_file(find_task(prog, 1))] == [
        (int(fd), int(file, 16)) for fd, file in files
    ]
    caches = re.findall(
        r"^(\w{16})\s+(\d+)\s+\d+\s+\d+\s+\d+\s+\w+  (\S+)", crash_says["kmem -s"], re.MULTILINE
    )
    assert len(caches) > 100
    assert {
        (c.value_(), c.object_size.value_(), c.name.string_().decode())
        for c in for_each_slab_cache(prog)
    } == {(int(address, 16), int(size), name) for address, size, name in caches}
    (total,) = re.findall(r"TOTAL MEM\s+(\d+)", crash_says["kmem -i"])
    assert totalram_pages(prog) == int(total)


def test_slab_objects(prog: drgn.Program) -> None:
    init = find_task(prog, 1)
    cache = find_containing_slab_cache(init)
    assert cache.name.string_() == b"task_struct"
    allocated = {
        t.value_() for t in slab_cache_for_each_allocated_object(cache, "struct task_struct")
    }
    assert {t.value_() for t in for_each_task(prog)} <= allocated


def test_memory_of_a_process(prog: drgn.Program, crash_says: dict[str, str]) -> None:
    init = find_task(prog, 1)
    log = get_dmesg(prog).decode()
    ran = int(re.findall(r"RIP: 0033:0x(\w+)", log)[-1], 16)
    (vma,) = [v for v in for_each_vma(init.mm) if v.vm_start <= ran < v.vm_end]
    assert vma_name(vma) == b"/bin/busybox"
    code = re.findall(r"Code: ([0-9a-f<> ]+)", log)[-1]
    before, marked, after = re.split("[<>]", code)  # the byte at the instruction pointer
    start = ran - len(bytes.fromhex(before))
    wanted = bytes.fromhex(before + marked + after)
    assert len(wanted) == 64 and access_process_vm(init, start, len(wanted)) == wanted
    lines = re.findall(r"^ +(\w+):  (\w{16}) (\w{16})", crash_says["rd -u"], re.M)
    assert len(lines) == 256
    for address, *words in lines:
        data = access_process_vm(init, int(address, 16), 16)
        assert struct.unpack("<2Q", data) == tuple(int(word, 16) for word in words)
    # the program of the lab's machine, tests/lab/init
    commands = {tuple(cmdline(t) or ()) for t in for_each_task(prog) if t.mm}
    assert (b"sleep", b"1000") in commands
    assert (b"nc", b"-l", b"-p", b"7777", b"127.0.0.1") in commands


def test_physical_addresses_are_pseudo_physical(prog: drgn.Program, truncated: Dump) -> None:
    native = NativeMemory(diagnosis(truncated), None)
    tables = native.found.kernel.tables
    for name in ("linux_banner", "init_task", "xenfs"):  # text, data, a module
        module = next(m for m in for_each_module(prog) if m.name.string_() == b"xenfs")
        address = module.value_() if name == "xenfs" else prog[name].address_
        assert address is not None
        paddr = follow_phys(prog["init_mm"].address_of_(), address).value_()
        mfn = native.mfn(paddr >> PAGE_SHIFT)
        assert mfn is not None and mfn << PAGE_SHIFT | paddr % PAGE_SIZE == tables.translate(
            address
        )
        assert prog.read(paddr, 32, physical=True) == prog.read(address, 32)
    init = find_task(prog, 1)
    assert phys_to_virt(virt_to_phys(init)).value_() == init.value_()
    page = virt_to_page(init)
    assert page_to_virt(page).value_() == init.value_() & ~(PAGE_SIZE - 1)


def test_a_page_that_is_not_in_the_dump_is_a_fault(prog: drgn.Program) -> None:
    with pytest.raises(drgn.FaultError, match=r"P[GU]D entry not present"):
        prog.read(0xFFFFA00000000000, 8)
    with pytest.raises(drgn.FaultError, match="could not find physical memory segment"):
        prog.read(0x7FFFFFFFF000, 8, physical=True)
    with pytest.raises(drgn.FaultError):
        prog.read(0x1000, 8)
    text = prog.symbol("_stext").address
    assert prog.read(text + 4000, 9000) == b"".join(
        prog.read(text + at, 100) for at in range(4000, 13000, 100)
    )
