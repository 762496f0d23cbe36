# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of Xen's frame table, looked at many at once."""

from __future__ import annotations

from ..machine.vectors import Words32, np
from .page_info import (
    PGC_ALLOCATED,
    PGC_XEN_HEAP,
    PGT_COUNT,
    PGT_L1,
    PGT_L3,
    PGT_L4,
    Layout,
)

__all__ = ["look", "tables_in"]


def look(
    data: bytes, layout: Layout
) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]], list[tuple[int, int]]]:
    """Return how many frames each owner has, and which of them are page tables.

    Frames that are not allocated, or in Xen's heap, do not count. The owners come as (owner, number
    of frames), the page tables of the third and fourth level as (index, owner, level). The frames
    of Xen's heap that are shared with a domain come apart, as (index, owner).
    """
    entries = np.frombuffer(data, np.uint8).reshape(-1, layout.size)
    flags = entries[:, layout.flags_at] & (PGC_ALLOCATED | PGC_XEN_HEAP)
    in_use = flags == PGC_ALLOCATED
    # the owner is aligned; of its 8 bytes with CONFIG_BIGMEM the lower 4 are enough
    owners = entries.view(np.uint32)[:, layout.owner_at // 4]
    levels = entries[:, layout.type_at] >> layout.type_shift
    tables = np.flatnonzero(in_use & ((levels == PGT_L3) | (levels == PGT_L4)))
    found = zip(tables.tolist(), owners[tables].tolist(), levels[tables].tolist())
    shared = np.flatnonzero(flags == PGC_ALLOCATED | PGC_XEN_HEAP)
    heap = zip(shared.tolist(), owners[shared].tolist())
    return _times(owners[in_use]), [*found], [*heap]


def tables_in(data: bytes, layout: Layout) -> list[int]:
    """Return the indices of the frames that are in use as page tables."""
    entries = np.frombuffer(data, np.uint8).reshape(-1, layout.size)
    levels = entries[:, layout.type_at] >> layout.type_shift
    types = entries.view(np.uint64)[:, layout.type_at // 8]
    in_use = (levels >= PGT_L1) & (levels <= PGT_L4) & (types & np.uint64(PGT_COUNT) != 0)
    return np.flatnonzero(in_use).tolist()


def _times(owners: Words32) -> list[tuple[int, int]]:
    """Return each owner with the number of times that it is there."""
    if not len(owners):
        return []
    # memory is given to domains in large pieces, so most often all have one owner
    if (owners == owners[0]).all():
        return [(int(owners[0]), len(owners))]
    values, counts = np.unique(owners, return_counts=True)
    return [*zip(values.tolist(), counts.tolist())]
