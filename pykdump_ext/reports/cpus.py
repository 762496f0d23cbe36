# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels that the cpus of a Xen host were on when it crashed, and which of them is dom0's."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import P2mError, ReadError
from ..linux.banners import release_of
from ..machine.memory import PAGE_SHIFT
from ..machine.paging import ADDRESS_MASK
from ..opened import OpenedDump

__all__ = ["Cr3", "Kernels"]

UNREADABLE = ""  # in place of a banner: the page table is not in the dump


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

    def banner(self, root: int) -> str | None:
        """Return the banner of the kernel that a top page table maps; no symbols are needed.

        Return None if it maps no Linux kernel (Xen's idle one, or another system's), and
        ``UNREADABLE`` if it is not in the dump.
        """
        try:
            found = self._opened.banner(root)
        except ReadError:
            return UNREADABLE
        return None if found is None else found.decode("latin-1")

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
