# SPDX-License-Identifier: GPL-3.0-or-later
"""A ``drgn.Program`` on the dump of a Xen host.

drgn's physical memory is machine memory here, because the entries of a PV kernel's page tables
hold machine addresses:

- What drgn translates by page tables is right: addresses of the kernel, and of a process
  (``access_process_vm()``, ``cmdline()``).
- ``follow_phys()`` returns machine addresses, and ``prog.read(..., physical=True)`` takes them.
- What drgn computes without page tables is pseudo-physical, as in the kernel itself:
  ``virt_to_phys()``, ``page_to_pfn()``, ``PFN_PHYS()``.  To read at a pseudo-physical address, read
  at its ``phys_to_virt()``.
- ``vmalloc_to_page()`` takes a machine frame for a pseudo-physical one, and returns a wrong page.

None of this needs the p2m, so it does not matter whether the dump's list is whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import P2mError, ReadError
from ..installed import pip_install
from ..linux.kernel import Kernel
from ..linux.namelist import Namelist
from ..linux.root_proof import prove_root
from ..linux.vmcoreinfo import swapper_root, vmcoreinfo_for_machine_memory
from ..machine.dumps import open_dump
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, join_pages
from ..opened import OpenedDump

try:
    import drgn
except ImportError:
    raise P2mError(f"drgn is not installed: {pip_install('drgn')}") from None

from .crashed_cpu import give_crashed_cpu
from .registers import add_registers

__all__ = ["load_symbols", "open_program", "program"]

KERNEL_HALF = (
    0xFFFF800000000000  # where the kernel's half of addresses begins, with 4-level page tables
)
PAGES_KEPT = 16384  # at most, 64 MiB


class Reader:
    """The memory of a kernel, as drgn reads it; pages that were read are kept."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._pages: dict[int, bytes] = {}

    def virtual(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a virtual address of the kernel; drgn calls this.

        :raises drgn.FaultError: the address is not mapped, or the memory not in the dump.
        """
        return join_pages(address, count, self._part)

    def _part(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes from an address, all in one page, and keep that page."""
        at = address % PAGE_SIZE
        page = self._pages.get(address >> PAGE_SHIFT)
        if page is None:
            try:
                maddr = self.kernel.tables.translate(address)
                try:
                    page = self.kernel.memory.read(maddr - at, PAGE_SIZE, "page")
                except ReadError:  # the dump may have a part of the page
                    return self.kernel.memory.read(maddr, size, "page")
            except ReadError as error:
                raise drgn.FaultError(str(error), address) from None
            if len(self._pages) >= PAGES_KEPT:
                self._pages.clear()
            self._pages[address >> PAGE_SHIFT] = page
        return page[at : at + size]

    def machine(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a machine address; drgn calls this.

        :raises drgn.FaultError: the memory is not in the dump.
        """
        try:
            return self.kernel.memory.read(address, count, "drgn")
        except ReadError as error:
            raise drgn.FaultError(str(error), address) from None


def program(vmcore: str | Path, vmlinux: str | Path) -> drgn.Program:
    """Return a ``drgn.Program`` on the dump of a Xen host with a PV dom0.

        prog = program("vmcore", "vmlinux")
        print(prog.crashed_thread().stack_trace())

    :param vmlinux: dom0's, with debug information.
    :raises P2mError: a file cannot be read, the dump is not one of a Xen host, or it is of
        another kernel.
    """
    return open_program(OpenedDump(open_dump([vmcore]), [Namelist(vmlinux)], [str(vmcore)]))


def open_program(opened: OpenedDump) -> drgn.Program:
    """Return a ``drgn.Program`` on an opened dump.

    :raises P2mError: as :func:`program`.
    """
    kernel = own_kernel(opened)
    path = opened.proved[0].path
    reader = Reader(kernel)
    prog = empty_program(kernel)
    prog.add_memory_segment(0, KERNEL_HALF, reader.machine, physical=True)
    prog.add_memory_segment(KERNEL_HALF, (1 << 64) - KERNEL_HALF, reader.virtual)
    namelist = opened.proved[0]
    # split debug information: drgn joins files of the same build ID
    load_symbols(prog, namelist.files if isinstance(namelist, Namelist) else [path])
    try:
        prog.type("struct task_struct")
    except LookupError:
        raise P2mError(
            f"{path}: has no debug information, which drgn needs; give the vmlinux of the kernel's"
            " debug package"
        ) from None
    add_registers(prog, opened.vcpus)
    give_crashed_cpu(prog, opened.vcpus)
    return prog


def empty_program(kernel: Kernel) -> drgn.Program:
    """Return a ``drgn.Program`` that has a kernel's vmcoreinfo, and no memory yet.

    :raises P2mError: the vmcoreinfo is damaged.
    """
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    try:
        prog.set_linux_kernel_custom(vmcoreinfo_for_machine_memory(kernel), is_live=False)
    except (drgn.BadDataError, OverflowError) as error:
        raise P2mError(f"the kernel's vmcoreinfo in the dump is damaged: {error}") from None
    return prog


def load_symbols(prog: drgn.Program, paths: Iterable[str | Path]) -> None:
    """Load the debug information of the kernel, or of its modules, into drgn.

    :raises P2mError: a file cannot be read, or is neither the kernel nor a module of the dump.
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


def own_kernel(opened: OpenedDump) -> Kernel:
    """Return the dump's kernel, read through its own top page table where that one is proved.

    :raises P2mError: the dump is not one of a Xen host, or it is of another kernel.
    """
    if opened.note is None:
        raise P2mError("this is not a dump of a Xen host: open it with drgn itself")
    namelist, kernel = opened.proved
    roots = (swapper_root(kernel), kernel.root)
    return prove_root(opened.dump, namelist, kernel.banner, roots, opened.tables)
