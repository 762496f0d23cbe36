"""A drgn program on the dump of a Xen host: ``program(vmcore, vmlinux)``.

What drgn calls physical memory is the machine's here: a PV kernel's page tables
hold machine addresses, so all that drgn translates by them is right: kernel
addresses, and a process's (``access_process_vm()``, ``cmdline()``).  What it
computes, without a page table, is pseudo-physical, as in the kernel itself:
``virt_to_phys()``, ``page_to_pfn()``, ``PFN_PHYS()``.  So ``follow_phys()`` and
``prog.read(..., physical=True)`` mean machine addresses, a pseudo-physical one
is to be read by ``phys_to_virt()``, and ``vmalloc_to_page()`` gives a wrong page.

The p2m is not needed for any of this, whether the dump's list is whole or not.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .domains import domain_info
from .dumps import Dump, open_dump
from .errors import P2mError, ReadError
from .kernel import START_KERNEL_MAP, Kernel, Root, prove_root
from .memory import PAGE_SHIFT, PAGE_SIZE
from .namelist import Namelist
from .p2m import read_list
from .p2m.diagnosis import root_candidates
from .vcpus import NT_PRSTATUS, PR_REG, Registers, Vcpu, dom0_vcpus

try:
    import drgn
    from drgn.helpers.linux.cpumask import for_each_present_cpu
    from drgn.helpers.linux.percpu import per_cpu, per_cpu_ptr
    from drgn.helpers.linux.sched import cpu_curr
except ImportError:
    raise P2mError("drgn is not installed: pip install 'pykdump-ext[drgn]'") from None

KERNEL_HALF = 0xFFFF800000000000  # and above: addresses of the kernel, with 4-level tables
PAGES_KEPT = 16384  # 64 MiB
LARGEST_VMCOREINFO = PAGE_SIZE  # VMCOREINFO_BYTES, include/linux/crash_core.h
SIZE_PRSTATUS = 336  # struct elf_prstatus of x86-64
PR_PID = 32
# Per-cpu pointers to the end of the stack of interrupts: 5.1 to 6.1 and from 6.15 on, up to
# 6.14, before 5.1.  Up to 64 bytes at the end were not part of it.
IRQ_STACKS = ("hardirq_stack_ptr", "pcpu_hot.hardirq_stack_ptr", "irq_stack_ptr")
IRQ_STACK_MARGIN = 64
# hypercall_page_initialise_ring3_kernel() of xen/arch/x86/pv/hypercall.c, up to the syscall:
# push %rcx; push %r11; mov $number, %eax; syscall
HYPERCALL_STUB = re.compile(rb"\x51\x41\x53\xb8....\x0f\x05", re.DOTALL)
HYPERCALL_STUB_SIZE = 10


class Reader:
    """Reads for drgn: a page is translated and fetched once, while it is kept."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._pages: dict[int, bytes] = {}

    def virtual(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a kernel virtual address, as drgn asks for them.

        :raises drgn.FaultError: they are not mapped, or not in the dump.
        """
        page = self._pages.get(address >> PAGE_SHIFT)
        at = address & (PAGE_SIZE - 1)
        if page is not None and at + count <= PAGE_SIZE:
            return page[at : at + count]
        parts = []
        end = address + count
        while address < end:
            at = address & (PAGE_SIZE - 1)
            size = min(end - address, PAGE_SIZE - at)
            parts.append(self._part(address, at, size))
            address += size
        return b"".join(parts)

    def _part(self, address: int, at: int, size: int) -> bytes:
        """Return ``size`` bytes of a page, from ``at`` in it, and keep the page."""
        page = self._pages.get(address >> PAGE_SHIFT)
        if page is None:
            try:
                maddr = self.kernel.tables.translate(address)
                try:
                    page = self.kernel.memory.read(maddr - at, PAGE_SIZE, "page")
                except ReadError:  # a dump may have part of a page
                    return self.kernel.memory.read(maddr, size, "page")
            except ReadError as error:
                raise drgn.FaultError(str(error), address) from None
            if len(self._pages) >= PAGES_KEPT:
                self._pages.clear()
            self._pages[address >> PAGE_SHIFT] = page
        return page[at : at + size]

    def machine(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a machine address, as drgn asks for them.

        :raises drgn.FaultError: they are not in the dump.
        """
        try:
            return self.kernel.memory.read(address, count, "drgn")
        except ReadError as error:
            raise drgn.FaultError(str(error), address) from None


def program(vmcore: str | Path, vmlinux: str | Path) -> drgn.Program:
    """Return drgn's program for a dump of a Xen host whose PV dom0 crashed.

    :raises P2mError: one of the files is not what it should be, or they do not
        belong together.
    """
    return program_of(open_dump([vmcore]), vmlinux)


def program_of(dump: Dump, vmlinux: str | Path) -> drgn.Program:
    """Return drgn's program for a dump that is open; see :func:`program`."""
    kernel = open_kernel(dump, Namelist(vmlinux))
    reader = Reader(kernel)
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    try:
        prog.set_linux_kernel_custom(vmcoreinfo(kernel), is_live=False)
    except (drgn.BadDataError, OverflowError) as error:
        raise P2mError(f"the kernel's vmcoreinfo is damaged: {error}") from None
    prog.add_memory_segment(0, KERNEL_HALF, reader.machine, physical=True)
    prog.add_memory_segment(KERNEL_HALF, (1 << 64) - KERNEL_HALF, reader.virtual)
    load_symbols(prog, [vmlinux])
    try:
        prog.type("struct task_struct")
    except LookupError:
        raise P2mError(
            f"{vmlinux}: has no debugging information of this kernel, which drgn needs"
        ) from None
    add_registers(prog, dump)
    return prog


def load_symbols(prog: drgn.Program, paths: Iterable[str | Path]) -> None:
    """Give drgn the debugging information of the kernel, or of its modules.

    :raises P2mError: a file is not there, or has none of what the dump has.
    """
    for path in paths:
        try:
            with Path(path).open("rb"):
                pass
            prog.load_debug_info([str(path)])
        except drgn.MissingDebugInfoError as error:
            raise P2mError(f"{path}: {str(error).splitlines()[-1]}") from None
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None


def open_kernel(dump: Dump, namelist: Namelist) -> Kernel:
    """Return the dump's kernel, read by its own top page table where that can be proved.

    :raises P2mError: the dump is not of a Xen host, or of another kernel.
    """
    info = domain_info(dump, dump.notes, 0)
    if info is None:
        raise P2mError("this is not a dump of a Xen host: open it with drgn itself")
    published = read_list(dump, info.frame_list_mfn)
    roots = root_candidates(dump, namelist, info, published)
    kernel = prove_root(dump, namelist, namelist.banner(), roots)
    own = Root(kernel.mfn_at(swapper(kernel), "swapper_pg_dir") << PAGE_SHIFT, "swapper_pg_dir")
    return prove_root(dump, namelist, namelist.banner(), (own, kernel.root))


def swapper(kernel: Kernel) -> int:
    """Return the address of the kernel's own top page table, as its vmcoreinfo has it.

    :raises P2mError: there is none.
    """
    found = re.search(r"^SYMBOL\(swapper_pg_dir\)=([0-9a-f]+)$", own_vmcoreinfo(kernel), re.M)
    if found is None:
        raise P2mError("the kernel's vmcoreinfo does not name swapper_pg_dir: it is damaged")
    return int(found[1], 16)


def own_vmcoreinfo(kernel: Kernel) -> str:
    """Return the text that the kernel would have added to a dump of its own.

    A dump of a Xen host has only Xen's; the kernel's is in its memory
    (kernel/crash_core.c, vmcore_info.c).

    :raises P2mError: it is not there.
    """
    data = kernel.address("vmcoreinfo_data")
    size = kernel.value("vmcoreinfo_size")
    if not 0 < size <= LARGEST_VMCOREINFO:
        raise P2mError(f"the kernel's vmcoreinfo is damaged: it has {size} bytes")
    if not kernel.read(data, 8, "vmcoreinfo_data").startswith(b"OSRELEAS"):  # since 4.13
        data = kernel.word(data, "vmcoreinfo_data")
    return kernel.read(data, size, "vmcoreinfo").decode("latin-1")


def vmcoreinfo(kernel: Kernel) -> bytes:
    """Return the kernel's vmcoreinfo as drgn is to have it.

    ``phys_base`` leads drgn to the machine address of the top page table.
    ``CRASHTIME`` is what a kernel adds when it saves its registers itself; drgn
    looks for them where that kernel keeps them, see :func:`add_registers`.

    :raises P2mError: the kernel has none.
    """
    text = re.sub(r"(?m)^(NUMBER\(phys_base\)|CRASHTIME)=.*\n", "", own_vmcoreinfo(kernel))
    phys_base = kernel.root.maddr - (swapper(kernel) - START_KERNEL_MAP) & (1 << 64) - 1
    return f"{text}NUMBER(phys_base)={phys_base}\nCRASHTIME=0\n".encode("latin-1")


def add_registers(prog: drgn.Program, dump: Dump) -> None:
    """Give drgn the registers of the tasks that were running.

    When a kernel is crashed by itself, it leaves each cpu's in the per-cpu
    variable ``crash_notes`` (kernel/kexec_core.c, ``crash_save_cpu()``), and drgn
    looks there; under Xen the hypervisor takes the cpus away.  So what Xen has of
    them is shown to drgn as that variable's contents.
    """
    vcpus = {vcpu.number: vcpu for vcpu in dom0_vcpus(dump, dump.notes)}
    # Of a damaged kernel, or one without kexec, there are fewer, or none
    with suppress(drgn.FaultError, LookupError):
        note_size = drgn.sizeof(prog.type("note_buf_t"))
        for cpu in for_each_present_cpu(prog):
            with suppress(drgn.FaultError):
                registers = registers_of(prog, cpu, vcpus.get(cpu))
                if registers is not None:
                    pid = cpu_curr(prog, cpu).pid.value_()
                    note = prstatus(registers, pid).ljust(note_size, b"\0")
                    address = per_cpu_ptr(prog["crash_notes"], cpu).value_()
                    prog.add_memory_segment(address, len(note), reader_of(note))


def registers_of(prog: drgn.Program, cpu: int, vcpu: Vcpu | None) -> Registers | None:
    """Return the kernel's registers on a cpu, or None: Xen has none that are its.

    :raises drgn.FaultError: the kernel's data about the cpu cannot be read.
    """
    if vcpu is None:
        return None
    stacks = stacks_of(prog, cpu)
    for registers in vcpu.registers:
        if vcpu.current or any(registers.rsp in stack for stack in stacks):
            return out_of_hypercall(prog, registers)
    return None


def stacks_of(prog: drgn.Program, cpu: int) -> list[range]:
    """Return the addresses of the stacks in use on a cpu: its task's, that of interrupts."""
    size = int(prog["THREAD_SIZE"])  # of both, arch/x86/include/asm/page_64_types.h
    task = cpu_curr(prog, cpu).stack.value_()
    stacks = [range(task, task + size)]
    for name in IRQ_STACKS:
        variable, _, member = name.partition(".")
        try:
            end = per_cpu(prog[variable], cpu)
            end = (end.member_(member) if member else end).value_()
        except (LookupError, drgn.FaultError):
            continue
        stacks.append(range(end - size, end + IRQ_STACK_MARGIN))
    return stacks


def out_of_hypercall(prog: drgn.Program, registers: Registers) -> Registers:
    """Return the registers of the caller, if they are those of a stub in the hypercall page.

    Kernels before 6.13 (6.1.120 and other stable ones) have Xen write these stubs,
    so that their debugging information cannot say how to unwind them.
    """
    try:
        code = prog.read(registers.rip - HYPERCALL_STUB_SIZE, HYPERCALL_STUB_SIZE)
        if not HYPERCALL_STUB.fullmatch(code):
            return registers
        return registers.returned(prog.read_u64(registers.rsp + 16), 24)
    except drgn.FaultError:
        return registers


def prstatus(registers: Registers, pid: int) -> bytes:
    """Return an ELF note with these registers, as ``crash_save_cpu()`` makes it."""
    status = bytearray(SIZE_PRSTATUS)
    struct.pack_into("<i", status, PR_PID, pid)
    struct.pack_into(f"<{len(registers.words)}Q", status, PR_REG, *registers.words)
    return struct.pack("<III8s", 5, len(status), NT_PRSTATUS, b"CORE") + status


def reader_of(data: bytes) -> Callable[[int, int, int, bool], bytes]:
    """Return what drgn reads a memory segment by that holds ``data``."""
    return lambda address, count, offset, physical: data[offset : offset + count]
