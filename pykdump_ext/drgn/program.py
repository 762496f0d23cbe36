"""A drgn program on the dump of a Xen host.

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

from collections.abc import Iterable
from pathlib import Path

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel, prove_root
from ..linux.namelist import Namelist
from ..linux.vmcoreinfo import swapper_root, vmcoreinfo_for_machine_memory
from ..machine.dumps import open_dump
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, join_pages
from ..opened import OpenedDump

try:
    import drgn
except ImportError:
    raise P2mError("drgn is not installed: pip install 'pykdump-ext[drgn]'") from None

from .registers import add_registers

__all__ = ["load_symbols", "open_program", "program"]

KERNEL_HALF = 0xFFFF800000000000  # and above: addresses of the kernel, with 4-level tables
PAGES_KEPT = 16384  # 64 MiB


class Reader:
    """Reads for drgn: a page is translated and fetched once, while it is kept."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._pages: dict[int, bytes] = {}

    def virtual(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a kernel virtual address, as drgn asks for them.

        :raises drgn.FaultError: they are not mapped, or not in the dump.
        """
        return join_pages(address, count, self._part)

    def _part(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of one page, and keep the page."""
        at = address % PAGE_SIZE
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
    return open_program(OpenedDump(open_dump([vmcore]), [Namelist(vmlinux)], [str(vmcore)]))


def open_program(opened: OpenedDump) -> drgn.Program:
    """Return drgn's program for an opened dump; see :func:`program`."""
    kernel = own_kernel(opened)
    path = opened.proved[0].path
    reader = Reader(kernel)
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    try:
        prog.set_linux_kernel_custom(vmcoreinfo_for_machine_memory(kernel), is_live=False)
    except (drgn.BadDataError, OverflowError) as error:
        raise P2mError(f"the kernel's vmcoreinfo is damaged: {error}") from None
    prog.add_memory_segment(0, KERNEL_HALF, reader.machine, physical=True)
    prog.add_memory_segment(KERNEL_HALF, (1 << 64) - KERNEL_HALF, reader.virtual)
    load_symbols(prog, [path])
    try:
        prog.type("struct task_struct")
    except LookupError:
        raise P2mError(
            f"{path}: has no debugging information of this kernel, which drgn needs"
        ) from None
    add_registers(prog, opened.vcpus)
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


def own_kernel(opened: OpenedDump) -> Kernel:
    """Return the dump's kernel, read by its own top page table where that can be proved.

    :raises P2mError: the dump is not of a Xen host, or of another kernel.
    """
    if opened.note is None:
        raise P2mError("this is not a dump of a Xen host: open it with drgn itself")
    namelist, kernel = opened.proved
    roots = (swapper_root(kernel), kernel.root)
    return prove_root(opened.dump, namelist, namelist.banner(), roots, opened.tables)
