"""A Linux kernel in machine memory: its symbols, its values, its page-table root.

Addresses are kernel virtual addresses in bytes.  Values are read by walking
page tables, never through a p2m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import P2mError, ReadError
from ..machine.memory import MachineMemory
from ..machine.paging import ADDRESS_MASK, PageTables

__all__ = [
    "PAGE_OFFSETS",
    "START_KERNEL_MAP",
    "Kernel",
    "KernelFile",
    "Root",
    "Symbols",
    "prove_root",
]

# arch/x86/include/asm/page_64_types.h; the second PAGE_OFFSET is that of 4.20 and newer
# (and of stable kernels with the same change)
START_KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_TEXT = START_KERNEL_MAP + 0x1000000  # where a kernel is linked, and a PV kernel runs
PAGE_OFFSETS = (0xFFFF880000000000, 0xFFFF888000000000)


class Symbols(Protocol):
    """The symbols of a namelist."""

    def address(self, name: str) -> int | None:
        """Return the virtual address of symbol ``name``, or None."""
        ...


class KernelFile(Symbols, Protocol):
    """A namelist: a kernel's symbols, and the banner that proves it is that kernel's."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def banner(self) -> bytes:
        """Return ``linux_banner`` without its final zero byte.

        :raises P2mError: the file is not the namelist of a Linux kernel.
        """
        ...


@dataclass(frozen=True)
class Root:
    """A machine address that may be the kernel's top page table, and where it is from."""

    maddr: int
    source: str


class Kernel:
    """A kernel's memory, read by virtual address through its own page tables.

    :param tables: the page tables below ``root``, where they have been used before.
    """

    def __init__(
        self,
        memory: MachineMemory,
        symbols: Symbols,
        root: Root,
        tables: PageTables | None = None,
    ) -> None:
        self.memory = memory
        self.symbols = symbols
        self.root = root
        self.tables = PageTables(memory, root.maddr) if tables is None else tables

    def address(self, name: str) -> int:
        """Return the address of symbol ``name``.

        :raises P2mError: the namelist has no such symbol.
        """
        address = self.symbols.address(name)
        if address is None:
            raise P2mError(f"the kernel has no symbol {name}; is this the namelist of the dump?")
        return address

    def read(self, vaddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``vaddr``.

        :raises ReadError: it cannot be read.
        """
        return self.tables.read(vaddr, size, what)

    def word(self, vaddr: int, what: str) -> int:
        """Return the unsigned 64-bit value at ``vaddr``.

        :raises ReadError: it cannot be read.
        """
        return int.from_bytes(self.read(vaddr, 8, what), "little")

    def value(self, name: str) -> int:
        """Return the unsigned 64-bit value of the variable ``name``.

        :raises P2mError: there is no such variable, or it cannot be read.
        """
        return self.word(self.address(name), name)

    def mfn_at(self, vaddr: int, what: str) -> int:
        """Return the machine frame number that ``vaddr`` is mapped to.

        :raises ReadError: it is not mapped.
        """
        return self.tables.translate(vaddr, what) >> 12

    def page_offset(self) -> int:
        """Return the virtual address at which the direct map begins.

        ``page_offset_base`` from 4.8 on, where the kernel has it; else the one
        of its possible places that has the kernel's own text in it.

        :raises P2mError: none has.
        """
        if self.symbols.address("page_offset_base") is not None:
            return self.value("page_offset_base")
        text = self.symbols.address("linux_banner") or KERNEL_TEXT
        for base in PAGE_OFFSETS:
            try:
                found = self.mfn_at(base + text - START_KERNEL_MAP, "direct map")
            except ReadError:
                continue
            if found == self.mfn_at(text, "kernel text"):
                return base
        raise P2mError("the kernel's direct map is at none of its known places")


def prove_root(
    memory: MachineMemory,
    symbols: Symbols,
    banner: bytes,
    candidates: Iterable[Root],
    tables: Callable[[int], PageTables] | None = None,
) -> Kernel:
    """Return the kernel read through the first candidate that is proved right.

    Proof is that ``linux_banner``, read through the candidate, is the
    namelist's own; so neither Xen's idle table nor another guest's passes.

    :param tables: returns the page tables below a root, where they are kept.
    :raises P2mError: no candidate passes; the text says what each one gave.
    """
    tried = []
    seen = set()
    for candidate in candidates:
        if candidate.maddr & ADDRESS_MASK in seen:
            continue
        seen.add(candidate.maddr & ADDRESS_MASK)
        kept = None if tables is None else tables(candidate.maddr)
        kernel = Kernel(memory, symbols, candidate, kept)
        try:
            found = kernel.read(kernel.address("linux_banner"), len(banner), "linux_banner")
        except ReadError as error:
            tried.append(f"{candidate.maddr:x} ({candidate.source}): {error}")
            continue
        if banner and found == banner:
            return kernel
        shown = found[:40].split(b"\n")[0].decode("latin-1")
        tried.append(f"{candidate.maddr:x} ({candidate.source}): another kernel, {shown!r}")
    listed = "; ".join(tried) or "there was none to try"
    raise P2mError(f"no page-table root of this kernel found: {listed}")
