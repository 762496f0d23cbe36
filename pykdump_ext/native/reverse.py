# SPDX-License-Identifier: GPL-3.0-or-later
"""A p2m turned round: the pfn of each machine frame, for dumps without Xen's own table of them."""

from __future__ import annotations

from ..machine.vectors import Words, np
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import IDENTITY_FRAME_BIT
from ..p2m.leaves import PFNS_PER_LEAF, read_leaves

__all__ = ["Reverse"]


class Reverse:
    """The frames of a p2m in order, and the pfn of each: 16 bytes a page.

    :raises ReadError: a leaf cannot be read.
    """

    def __init__(self, found: Diagnosis) -> None:
        own = found.table.own_indices()
        frames = (found.table.leaves[index] for index in own)
        leaves = [
            np.frombuffer(leaf, np.uint64) for leaf in read_leaves(found.kernel.memory, frames)
        ]
        mfns: Words = np.concatenate([np.empty(0, np.uint64), *leaves])
        pfns: Words = np.array(own, np.uint64).repeat(PFNS_PER_LEAF) * PFNS_PER_LEAF
        pfns += np.tile(np.arange(PFNS_PER_LEAF, dtype=np.uint64), len(own))
        there = (mfns < IDENTITY_FRAME_BIT) & (pfns < found.table.max_pfn)
        mfns, pfns = mfns[there], pfns[there]
        order = np.argsort(mfns, kind="stable")
        self._mfns, self._pfns = mfns[order], pfns[order]

    def pfn(self, mfn: int) -> int | None:
        """Return the pfn of a machine frame, or None: the p2m does not have it."""
        at = int(np.searchsorted(self._mfns, np.uint64(mfn)))
        there = at < len(self._mfns) and int(self._mfns[at]) == mfn
        return int(self._pfns[at]) if there else None
