# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linux kernel in machine memory: its symbols, its values, its page-table root.

Addresses are kernel virtual addresses in bytes.  Values are read by walking
page tables, never through a p2m.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import P2mError, ReadError
from ..machine.memory import MachineMemory
from ..machine.paging import PageTables

__all__ = [
    "PAGE_OFFSETS",
    "START_KERNEL_MAP",
    "Kernel",
    "KernelFile",
    "Root",
    "Symbols",
]

# arch/x86/include/asm/page_64_types.h.  Linux commit d52888aa2753 ("x86/mm: Move LDT remap out
# of KASLR region on 5-level paging"), in v4.20 and in stable kernels such as 4.19.79, changes
# PAGE_OFFSET from the first value to the second.
START_KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_TEXT = START_KERNEL_MAP + 0x1000000  # where a kernel is linked, and a PV kernel runs
PAGE_OFFSETS = (0xFFFF880000000000, 0xFFFF888000000000)


class Symbols(Protocol):
    """The symbols of a namelist."""

    def address(self, name: str) -> int | None:
        """Return the virtual address of symbol ``name``, or None."""
        ...


class KernelFile(Symbols, Protocol):
    """A namelist: a kernel's symbols, and the banner that identifies the kernel."""

    @property
    def path(self) -> Path:
        """The namelist's file."""
        ...

    def banner(self) -> bytes:
        """Return ``linux_banner`` without its final zero byte.

        :raises P2mError: the file is not the namelist of a Linux kernel.
        """
        ...


@dataclass(frozen=True)
class Root:
    """A candidate for a kernel's top page table: its machine address, and its source."""

    maddr: int
    source: str


class Kernel:
    """A kernel's memory, read by virtual address through its own page tables.

    :param tables: the page tables below ``root``, if they are in use already.
    :param banner: its ``linux_banner`` in memory, without the final zero byte, if it was read.
    """

    def __init__(
        self,
        memory: MachineMemory,
        symbols: Symbols,
        root: Root,
        tables: PageTables | None = None,
        banner: bytes = b"",
    ) -> None:
        self.memory = memory
        self.symbols = symbols
        self.root = root
        self.tables = PageTables(memory, root.maddr) if tables is None else tables
        self.banner = banner

    def address(self, name: str) -> int:
        """Return the address of symbol ``name``.

        :raises P2mError: the namelist has no such symbol.
        """
        address = self.symbols.address(name)
        if address is None:
            raise P2mError(f"the namelist has no symbol {name}; is it the one of this dump?")
        return address

    def read(self, vaddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``vaddr``.

        :raises ReadError: any of these bytes cannot be read.
        """
        return self.tables.read(vaddr, size, what)

    def word(self, vaddr: int, what: str) -> int:
        """Return the unsigned 64-bit value at ``vaddr``.

        :raises ReadError: the value cannot be read.
        """
        return int.from_bytes(self.read(vaddr, 8, what), "little")

    def value(self, name: str) -> int:
        """Return the unsigned 64-bit value of the variable ``name``.

        :raises P2mError: the variable does not exist, or cannot be read.
        """
        return self.word(self.address(name), name)

    def mfn_at(self, vaddr: int, what: str) -> int:
        """Return the machine frame number that ``vaddr`` is mapped to.

        :raises ReadError: ``vaddr`` is not mapped.
        """
        return self.tables.translate(vaddr, what) >> 12

    def page_offset(self) -> int:
        """Return the virtual address at which the direct map begins.

        It is in ``page_offset_base``, if the kernel has that variable: since Linux commit
        021182e52fe0 ("x86/mm: Enable KASLR for physical mapping memory regions"), in v4.8.
        Otherwise it is the one of ``PAGE_OFFSETS`` at which the kernel's own text is mapped.

        :raises P2mError: the direct map is not at any of them, or the variable is unreadable.
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
        known = " or ".join(f"{base:x}" for base in PAGE_OFFSETS)
        raise P2mError(f"the kernel's direct map is not at {known}, so it cannot be found")
