# SPDX-License-Identifier: GPL-3.0-or-later
"""A ``drgn.Program`` on the dump of a Xen host.

drgn gets the memory that the kernel would have without Xen (``native.memory``): its physical
addresses are pseudo-physical, and page tables have such addresses.  So every helper of drgn means
here what it means elsewhere.  A page of Xen or of another domain has an address above
``native.memory.OTHERS``, from which drgn reads nothing.  Where the kernel maps such a page, it can
be read by its virtual address.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from .. import errors
from ..errors import P2mError, ReadError
from ..installed import pip_install
from ..linux.namelist import Namelist
from ..linux.vmcoreinfo import swapper
from ..machine.dumps import open_dump
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, join_pages
from ..machine.paging import PageTables
from ..native.dump import Saved
from ..native.memory import NativeMemory
from ..opened import OpenedDump
from ..xen.vcpus import Vcpu

try:
    import drgn
except ImportError:
    raise P2mError(f"drgn is not installed: {pip_install('drgn')}") from None

from .crashed_cpu import give_crashed_cpu
from .registers import add_registers, saved_notes

__all__ = [
    "become_kernel",
    "drgn_cli",
    "fill_program",
    "open_program",
    "program",
    "saved",
    "users_frames",
]

KERNEL_HALF = (
    0xFFFF800000000000  # where the kernel's half of addresses begins, with 4-level page tables
)
MOST_RUNS = 1 << 18  # of pages; drgn has a segment for each
PAGES_KEPT = 16384  # at most, 64 MiB
# Functions of drgn.cli that its documentation does not name: drgn's command, and what opens the
# running kernel for it where no option chooses otherwise (drgn 0.1.0 to 0.3.0)
MAIN, OPEN_KERNEL = "_main", "_set_kernel_with_sudo_fallback"


class Reader:
    """The memory of a kernel, as drgn reads it; pages that were read are kept."""

    def __init__(self, native: NativeMemory, tables: PageTables) -> None:
        self.native = native
        self.tables = tables
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
                maddr = self.tables.translate(address)
                page = self.native.machine_page(maddr >> PAGE_SHIFT, "page")
                if page is None:  # the dump may have a part of the page
                    return self.native.found.kernel.memory.read(maddr, size, "page")
            except ReadError as error:
                raise drgn.FaultError(str(error), address) from None
            if len(self._pages) >= PAGES_KEPT:
                self._pages.clear()
            self._pages[address >> PAGE_SHIFT] = page
        return page[at : at + size]

    def physical(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return ``count`` bytes from a pseudo-physical address; drgn calls this.

        :raises drgn.FaultError: the memory is not in the dump.
        """
        try:
            return self.native.read(address, count, "drgn")
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
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    fill_program(prog, opened)
    return prog


def fill_program(prog: drgn.Program, opened: OpenedDump) -> None:
    """Give a program an opened dump: one with a platform and nothing else, or a kernel's.

    :raises P2mError: as :func:`program`.
    """
    if opened.note is None:
        raise P2mError("this is not a dump of a Xen host: open it with drgn itself")
    native, namelist = opened.native, opened.proved[0]
    reader = Reader(native, own_tables(opened))
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        become_kernel(prog, native.vmcoreinfo(0))
    for number, (start, size) in enumerate(native.runs()):
        if number >= MOST_RUNS:
            raise P2mError("the kernel's p2m has memory in too many pieces: its data is damaged")
        prog.add_memory_segment(start, size, reader.physical, physical=True)
    prog.add_memory_segment(KERNEL_HALF, (1 << 64) - KERNEL_HALF, reader.virtual)
    # split debug information: drgn joins files of the same build ID
    load_symbols(prog, getattr(namelist, "files", [namelist.path]))
    try:
        prog.type("struct task_struct")
    except LookupError:
        raise P2mError(
            f"{namelist.path}: has no debug information, which drgn needs; give the vmlinux of the"
            " kernel's debug package"
        ) from None
    give_vmcoreinfo(prog, native)
    if not opened.domain:
        add_registers(prog, opened.vcpus)
        give_crashed_cpu(prog, opened.vcpus)


def own_tables(opened: OpenedDump) -> PageTables:
    """Return the page tables of the kernel itself, or those of the process that proved it.

    Before Linux 5.8 (7f0a002b5a21) those of a process may lack vmalloc's memory, which the kernel
    maps when the process first touches it.
    """
    kernel = opened.kernel
    try:
        own = opened.tables(kernel.mfn_at(swapper(kernel), "swapper_pg_dir") << PAGE_SHIFT)
        banner = own.read(kernel.address("linux_banner"), len(kernel.banner), "linux_banner")
    except P2mError:
        return kernel.tables
    return own if banner == kernel.banner else kernel.tables


def become_kernel(prog: drgn.Program, vmcoreinfo: bytes) -> None:
    """Make a program that of a kernel with this vmcoreinfo; it has no memory yet.

    :raises P2mError: the vmcoreinfo is damaged.
    """
    try:
        prog.set_linux_kernel_custom(vmcoreinfo, is_live=False)
    except Exception as error:  # of no other class before drgn has BadDataError, as in 0.1.0
        raise P2mError(f"the kernel's vmcoreinfo in the dump is damaged: {error}") from None


def clock(prog: drgn.Program) -> int | None:
    """Return the kernel's clock in seconds since 1970, or None where it cannot be read.

    Since Linux 6.17 (22c62b9a84b8) ``tk_core`` is an element of an array; before 3.17
    (3fdb14fd1df7) there is none.
    """
    try:
        try:
            core = prog["timekeeper_data"][prog["TIMEKEEPER_CORE"]]
        except LookupError:
            core = prog["tk_core"]
        return int(core.timekeeper.xtime_sec.value_())
    except (LookupError, AttributeError, drgn.FaultError):
        return None


def saved(prog: drgn.Program, vcpus: Iterable[Vcpu]) -> Saved:
    """Return what dom0's kernel would have saved when it crashed, if it had run without Xen."""
    return Saved(saved_notes(prog, vcpus), clock(prog) or 0)


def give_vmcoreinfo(prog: drgn.Program, native: NativeMemory) -> None:
    """Have ``prog["VMCOREINFO"]`` show the time of the crash by the kernel's own clock.

    drgn takes the text before it can read that clock.
    """
    seconds = clock(prog)
    if seconds is None:
        return
    text = native.vmcoreinfo(seconds)

    def find(
        prog: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        if name != "VMCOREINFO" or filename is not None:
            return None
        kind = prog.array_type(prog.int_type("char", 1, True), len(text))
        return drgn.Object(prog, kind, text)

    prog.register_object_finder("pykdump_ext vmcoreinfo", find, enable_index=0)


def drgn_cli(fill: Callable[[drgn.Program], None], words: Sequence[str]) -> None:
    """Run drgn's own command on another program than that of the running kernel.

    :param fill: gets an empty program for x86-64.
    :param words: drgn's options and arguments.
    :raises P2mError: this drgn is too old or too new for it.
    """
    import drgn.cli  # noqa: PLC0415

    if not all(hasattr(drgn.cli, name) for name in (MAIN, OPEN_KERNEL)):
        raise P2mError(f"this release of p2mfix does not know drgn {drgn.__version__}")
    setattr(drgn.cli, OPEN_KERNEL, fill)
    sys.argv = ["drgn", "--architecture", "x86_64", *words]
    getattr(drgn.cli, MAIN)()


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


def users_frames(trace: TracebackType | None, *runners: str) -> TracebackType | None:
    """Return a traceback without its first frames, which run the user's code but are not of it.

    :param runners: files that such frames are in, besides those of Python, of drgn and this one.
    """
    import drgn.cli  # noqa: PLC0415

    return errors.users_frames(trace, *runners, __file__, drgn.cli.__file__)
