# SPDX-License-Identifier: GPL-3.0-or-later
"""Stack traces and registers: drgn on the truncated dump, crash and the log on the untouched."""

from __future__ import annotations

import re
import struct

import drgn
import pytest
from drgn.helpers.linux.mm import (
    cmdline,
)
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import cpu_curr

from pykdump_ext.drgn.crashed_cpu import crashed_cpu, replace
from pykdump_ext.drgn.prog import open_program, program
from pykdump_ext.errors import P2mError
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.machine.notes import Note
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.notes import read_crash_note
from pykdump_ext.xen.vcpus import STACK_SIZE, dom0_vcpus
from tests.lab.broken import diagnosis, truncated
from tests.lab.dump import Dump
from tests.lab.matrix import KERNELS
from tests.lab.matrix import untouched as untouched_of
from tests.lab.packages import Missing

from .traces import (
    are_in_order,
    check_cpus,
    is_that_of_a_blocked_task,
    logged_trace,
    names,
)

CPUS = range(4)


def test_stack_of_the_panic(prog: drgn.Program, crash_says: dict[str, str]) -> None:
    thread = prog.crashed_thread()
    found = names(thread.stack_trace())
    assert thread.tid == 1 and names(prog.stack_trace(1)) == found
    wanted = logged_trace(prog)
    assert wanted[:2] == ["panic", "sysrq_handle_crash"] and wanted[-1] == "entry_SYSCALL_64"
    assert are_in_order(wanted, found)
    shown = re.findall(r"^ *#\d+ \[\w+\] (\w+)[\w.]* at", crash_says["bt"], re.MULTILINE)
    shown = shown[: shown.index("do_syscall_64") + 1]  # behind it crash shows what is left over
    assert len(shown) > 6 and are_in_order(shown, found)
    user = thread.stack_trace()[-1].registers()
    log = get_dmesg(prog).decode()
    for register, printed_as in (("rip", "RIP: 0033:0x"), ("rsp", "RSP: 002b:"), ("r13", "R13: ")):
        assert user[register] == int(re.findall(rf"{printed_as}(\w+)", log)[-1], 16)


def test_stacks_of_running_and_of_blocked_tasks(prog: drgn.Program, truncated: Dump) -> None:
    running = {cpu_curr(prog, cpu).value_() for cpu in CPUS}
    core = ElfCore(truncated.vmcore)
    check_cpus(prog, dom0_vcpus(core, core.notes))
    blocked = [t for t in for_each_task(prog) if t.value_() not in running]
    assert len(blocked) > 60
    for task in blocked:
        found = names(prog.stack_trace(task))
        assert is_that_of_a_blocked_task(found), (task.comm, found)


class Patched(ElfCore):
    """A dump with other bytes in some places."""

    def __init__(self, dump: Dump) -> None:
        super().__init__(dump.vmcore)
        self.patches: dict[int, bytes] = {}

    def read(self, maddr: int, size: int, what: str) -> bytes:
        data = bytearray(super().read(maddr, size, what))
        for start, patch in self.patches.items():
            at, end = max(start, maddr), min(start + len(patch), maddr + size)
            if at < end:
                data[at - maddr : end - maddr] = patch[at - start : end - start]
        return bytes(data)


def test_registers_of_a_cpu_that_was_given_to_another_guest(
    prog: drgn.Program, truncated: Dump
) -> None:
    """Then they are in struct vcpu, and no more on the cpu's stack."""
    core = Patched(truncated)
    info = read_crash_note(core.notes)
    assert info is not None
    vcpus = dom0_vcpus(core, core.notes)
    assert [v.number for v in vcpus] == [*CPUS]
    ran = next(v for v in vcpus if v.current)  # one there is: that which has crashed
    saved = struct.pack("<21Q", *ran.registers[0].words)
    pcpu, tables = next(
        (end, tables)
        for note, cr3 in zip((n for n in core.notes if n.owner == "CORE"), info.cr3s)
        for tables in [PageTables(core, cr3)]
        for end in [(int.from_bytes(note.data[112 + 19 * 8 :][:8], "little") | STACK_SIZE - 1) + 1]
        if saved[19 * 8 : 20 * 8] in tables.read(end - 512, 512, "stack")
    )
    stack = tables.read(pcpu - 512, 512, "stack")
    vcpu = next(
        word
        for (word,) in struct.iter_unpack("<Q", stack[256:])
        if word and word % PAGE_SIZE == 0 and word >> 40 == 0xFFFF83
    )
    core.patches[tables.translate(pcpu - 512)] = bytes(512)
    assert not any(
        v.current or ran.registers[0] in v.registers
        for v in dom0_vcpus(core, core.notes)
        if v.number == ran.number
    )
    first = tables.translate(vcpu + 64)  # what is before it tells whose it is
    core.patches[first] = bytes(1024) + saved
    again = dom0_vcpus(core, core.notes)[ran.number]
    assert not again.current and ran.registers[0] in again.registers

    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    found = names(other.stack_trace(cpu_curr(other, ran.number)))
    assert found == names(prog.stack_trace(cpu_curr(prog, ran.number)))
    core.patches[first] = bytes(1024 + len(saved))
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    with pytest.raises(LookupError, match=r"registers for CPU \d were not saved"):
        other.stack_trace(cpu_curr(other, ran.number))


def test_registers_without_xens_list_of_domains(prog: drgn.Program, truncated: Dump) -> None:
    core = Patched(truncated)
    core.notes = [note for note in core.notes if note.owner != "VMCOREINFO_XEN"]
    assert not any(v.current for v in dom0_vcpus(core, core.notes))
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    for cpu in CPUS:
        wanted = names(prog.stack_trace(cpu_curr(prog, cpu)))
        assert wanted
        assert names(other.stack_trace(cpu_curr(other, cpu))) == wanted


def test_what_is_damaged_is_told_or_left_out(truncated: Dump) -> None:
    core = Patched(truncated)
    kernel = diagnosis(truncated).kernel
    notes = core.notes

    def current() -> set[int]:
        return {v.number for v in dom0_vcpus(core, core.notes) if v.current}

    before, lost = current(), set()
    for note in (note for note in notes if note.owner == "CORE" and note.type == 1):
        core.notes = [Note(n.owner, n.type, n.data[:100] if n is note else n.data) for n in notes]
        assert current() < before or current() == before
        assert len(before - current()) <= 1  # a note is of one physical cpu
        lost |= before - current()
    assert before and lost == before
    core.notes = notes
    text = kernel.tables.translate(kernel.value("vmcoreinfo_data"))
    for maddr, data, sentence in (
        (text, b"OSRELEAS:", "vmcoreinfo does not name swapper_pg_dir|vmcoreinfo .* damaged: VMCO"),
        (text, b"\0" * 4000, "the kernel's vmcoreinfo does not name swapper_pg_dir"),
        (kernel.tables.translate(kernel.address("vmcoreinfo_size")), b"\xff" * 8, "it has 1844674"),
    ):
        core.patches = {maddr: data}
        with pytest.raises(P2mError, match=sentence):
            open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    # without the kernel's per-cpu areas there are no running tasks, and all others
    offsets = kernel.tables.translate(kernel.address("__per_cpu_offset"))
    core.patches = {offsets: b"\xff\x7f" * 4 * 4}
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    assert is_that_of_a_blocked_task(names(other.stack_trace(2)))


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != "6.1"])
def test_other_kernels(kernel: str) -> None:
    try:
        dump = truncated(untouched_of(kernel))
    except Missing as error:
        pytest.skip(str(error))
    prog = program(dump.vmcore, dump.vmlinux)
    assert are_in_order(logged_trace(prog), names(prog.crashed_thread().stack_trace()))
    running = {cpu_curr(prog, cpu).value_() for cpu in CPUS}
    core = ElfCore(dump.vmcore)
    vcpus = dom0_vcpus(core, core.notes)
    check_cpus(prog, vcpus)
    cpu = crashed_cpu(vcpus)
    assert cpu is not None and cpu == prog["panic_cpu"].counter.value_()
    replace(prog, prog["crashing_cpu"], cpu)  # as in a kernel without panic_cpu
    assert prog["crashing_cpu"].value_() == cpu
    for task in for_each_task(prog):
        if task.value_() not in running:
            found = names(prog.stack_trace(task))
            assert is_that_of_a_blocked_task(found), (task.comm, found)
    assert (b"sleep", b"1000") in {tuple(cmdline(t) or ()) for t in for_each_task(prog) if t.mm}
    assert {m.name.string_() for m in for_each_module(prog)} >= {b"xenfs", b"xen_privcmd"}
