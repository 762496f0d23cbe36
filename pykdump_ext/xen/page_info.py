# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry of Xen's frame table: ``struct page_info``, its flags and its owner."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "FLAGS_BYTE",
    "PGC_ALLOCATED",
    "PGC_XEN_HEAP",
    "PGT_COUNT",
    "PGT_L1",
    "PGT_L3",
    "PGT_L4",
    "Layout",
    "PageInfo",
]

# u.inuse.type_info follows count_info; each has 8 bytes, and its flags are in this one:
FLAGS_BYTE = 7
PGC_ALLOCATED = 0x80
PGC_XEN_HEAP = 0x40
PGT_L1, PGT_L3, PGT_L4 = 1, 3, 4  # page types
PGT_COUNT = (1 << 48) - 1  # in type_info: how often the frame is used as that type


@dataclass(frozen=True)
class PageInfo:
    """One ``struct page_info``; ``owner`` is the index of the owner's ``struct domain``.

    ``type_count`` is the number of uses of the frame as a page of that ``type``.
    """

    owner: int
    flags: int
    type: int
    type_count: int

    @property
    def is_xen_heap(self) -> bool:
        """True if the frame is in Xen's heap; a domain may share it."""
        return bool(self.flags & PGC_XEN_HEAP)

    @property
    def is_page_table(self) -> bool:
        """True if the frame is in use as a page table of a PV domain."""
        return PGT_L1 <= self.type <= PGT_L4 and self.type_count > 0


@dataclass(frozen=True)
class Layout:
    """Where an entry of ``size`` bytes has its flags, its type's flags, and its owner; in bytes."""

    size: int
    flags_at: int
    type_at: int
    owner_at: int
    type_shift: int
