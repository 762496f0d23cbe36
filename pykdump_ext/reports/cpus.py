# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels that the cpus of a Xen host were on when it crashed, and which of them is dom0's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import P2mError, ReadError
from ..linux.kernel import START_KERNEL_MAP
from ..linux.namelist import release_of
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from ..machine.paging import ADDRESS_MASK, NOT_MAPPED, PageTables
from ..opened import OpenedDump

__all__ = ["Cr3", "Kernels"]

# KERNEL_IMAGE_SIZE of arch/x86/include/asm/page_64_types.h: 512 MiB, 1 GiB with KASLR
KERNEL_IMAGE_PAGES = (1 << 30) >> PAGE_SHIFT
UNREADABLE = ""  # in place of a banner: the page table is not in the dump
BANNER = re.compile(rb"Linux version [^\0\n]{1,500}\n")
TEXT_PAGES_BEFORE_BANNER = 1 << 16  # 256 MiB: no kernel has more text


@dataclass(frozen=True)
class Cr3:
    """The top page table that a cpu used: its machine address and its owner."""

    cpu: int
    maddr: int
    owner: str


class Kernels:
    """The Linux kernels that top page tables map; each is searched for once."""

    def __init__(self, opened: OpenedDump) -> None:
        self._opened = opened
        self._by_entry: dict[int, str | None] = {}

    def banner(self, root: int) -> str | None:
        """Return the banner of the kernel that a top page table maps; no symbols are needed.

        Return None if it maps no Linux kernel (Xen's idle one, or another system's), and
        ``UNREADABLE`` if it is not in the dump.
        """
        tables = self._opened.tables(root)
        try:
            entry = tables.table(tables.root, 0)[-1]  # START_KERNEL_MAP is in the last 512 GiB
        except ReadError:
            return UNREADABLE
        if entry not in self._by_entry:  # all processes share a kernel's tables below the top one
            self._by_entry[entry] = _banner(tables)
        return self._by_entry[entry]

    def of_cpus(self) -> list[Cr3]:
        """Return the top page table of each cpu, in the order of cpus."""
        note = self._opened.note
        return [
            Cr3(cpu, cr3 & ADDRESS_MASK, self._owner(cr3))
            for cpu, cr3 in enumerate(note.cr3s if note else ())
        ]

    def _owner(self, cr3: int) -> str:
        """Return a few words on the owner of the top page table in a cr3."""
        banner, domain = self.banner(cr3), self._opened.owner(cr3)
        if banner == UNREADABLE:
            kernel = "not in the dump"
        elif banner:
            kernel = f"Linux {release_of(banner)}"
        elif domain is None and self._has_xen:
            return "no Linux kernel: Xen's own"
        else:
            return "no Linux kernel" + ("" if domain is None else f": of domain {domain}")
        return kernel + (f", domain {domain}" if domain else "")

    @property
    def _has_xen(self) -> bool:
        """True if Xen's memory is in the dump, so that the owners of page tables are known."""
        try:
            return self._opened.xen is not None
        except P2mError:
            return False

    def roots(self) -> list[int]:
        """Return the top page tables that map dom0's kernel, as far as that is known.

        A cpu that ran a guest has a kernel too, often another release. If no cpu was on
        dom0's, Xen's frame table has its page tables. If Xen's memory is not in the dump, and
        the cpus were on several kernels, dom0's is unknown.
        """
        opened = self._opened
        used = dict.fromkeys(root.maddr & ADDRESS_MASK for root in opened.hints.roots)
        roots = [root for root in used if self.banner(root)]
        own = [root for root in roots if opened.owner(root) == 0]
        if own or not self._has_xen:
            alike = len({self.banner(root) for root in roots}) == 1
            return own or (roots if alike else [])
        try:
            tops = opened.xen.owned([opened.xen.domain(0)])[0].roots
        except P2mError:
            return []
        return [mfn << PAGE_SHIFT for mfn in tops if self.banner(mfn << PAGE_SHIFT)]


def _banner(tables: PageTables) -> str | None:
    """Search the kernel that these page tables map for its banner; see :meth:`Kernels.banner`."""
    try:
        frames = tables.frames(START_KERNEL_MAP, KERNEL_IMAGE_PAGES)
    except ReadError:
        return UNREADABLE
    before = b""
    mapped = (mfn for mfn in frames if mfn != NOT_MAPPED)
    for _, mfn in zip(range(TEXT_PAGES_BEFORE_BANNER), mapped):
        try:
            page = tables.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "kernel image")
        except ReadError:
            page = b""
        match = BANNER.search(before + page)
        if match:
            return match[0].decode("latin-1").rstrip("\n")
        before = page
    return None
