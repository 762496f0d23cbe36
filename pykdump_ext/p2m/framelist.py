# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame list: the mfns of all leaves, which a kernel publishes for tools like crash.

``pfn_to_mfn_frame_list_list`` (``xen/include/public/arch-x86/xen.h``) is the mfn of one
page. It has the mfns of up to 512 pages, and each of these the mfns of up to 512 leaves.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ReadError
from ..machine.memory import WORDS_PER_PAGE, MachineMemory, read_words
from ..machine.paging import NOT_MAPPED
from .layouts import P2mTable, with_replaced
from .leaves import read_leaf

__all__ = ["LEAVES_PER_PAGE", "FrameList", "build_list", "problems_of_crash", "read_list"]

LEAVES_PER_PAGE = WORDS_PER_PAGE


@dataclass(frozen=True)
class FrameList:
    """A frame list: the mfn of each leaf, 0 for those that it does not name.

    ``problems`` has a sentence for each part of the dump's list that cannot be read, or
    that crash cannot read.
    """

    leaves: array[int]
    problems: tuple[str, ...] = field(default=())

    def leaf(self, index: int) -> int | None:
        """Return the mfn of leaf ``index``, or None if the list does not name it."""
        mfn = self.leaves[index] if index < len(self.leaves) else 0
        return mfn if mfn not in (0, NOT_MAPPED) else None

    @property
    def gap(self) -> int | None:
        """The index of the first entry that is zero with others after it, or None.

        crash reads as many entries from the start of each page as are not zero
        (``x86_64_xen_kdump_p2m_create()``), so it misreads what follows a gap.
        """
        used = -(-len(self.leaves.tobytes().rstrip(b"\0")) // self.leaves.itemsize)
        return self.leaves.index(0) if 0 in self.leaves[:used] else None


def read_list(memory: MachineMemory, list_list_mfn: int) -> FrameList:
    """Return the dump's list, as far as it can be read.

    Damage is not an error here: a page that cannot be read counts as one that names no
    leaf, and ``problems`` has the reason.

    :param list_list_mfn: ``pfn_to_mfn_frame_list_list``.
    """
    try:
        tops = read_words(memory, list_list_mfn, "pfn_to_mfn_frame_list_list")
    except ReadError as error:
        return FrameList(array("Q"), (str(error),))
    leaves = array("Q")
    problems = []
    pages: dict[int, array[int]] = {0: array("Q", bytes(8)) * LEAVES_PER_PAGE}
    for mfn in tops:
        if mfn not in pages:
            try:
                pages[mfn] = read_words(memory, mfn, "pfn_to_mfn_frame_list page")
            except ReadError as error:
                pages[mfn] = pages[0]
                problems.append(str(error))
        leaves.extend(pages[mfn])
    return FrameList(leaves, tuple(problems))


def problems_of_crash(
    memory: MachineMemory, published: FrameList, table: P2mTable
) -> Iterator[str]:
    """Yield a sentence for each reason why crash cannot use a list that names every leaf.

    One reason is a gap, the other a leaf that cannot be read: to find the pfn of a frame,
    crash reads one leaf after another, and fails at the first that it cannot read
    (``__xen_pvops_m2p_hyper()`` of kernel.c).
    """
    if published.gap is not None:
        yield f"the list has a gap at leaf {published.gap:,}: crash misreads what follows it"
    shared = (0, table.missing_mfn, table.identity_mfn)
    strange = set(published.leaves).difference(table.leaves, shared)
    for mfn in sorted(strange):
        try:
            read_leaf(memory, mfn)
        except ReadError as error:
            yield str(error)
            return


def build_list(table: P2mTable) -> FrameList:
    """Return the list that a correct kernel would have published for ``table``.

    For every leaf that holds memory it equals the one that ``xen_build_mfn_list_list()``
    (``arch/x86/xen/p2m.c``) builds with ``xen_max_p2m_pfn == max_pfn``. Identity leaves are
    missing in it; a kernel's own list may name the shared identity page, which reads as
    missing too. The list ends with the last leaf that exists: a damaged ``max_pfn`` can
    ask for many more.
    """
    leaves = table.leaves
    if table.identity_mfn is not None:
        leaves = with_replaced(leaves, table.identity_mfn, table.missing_mfn)
    if table.missing_mfn == NOT_MAPPED:
        there = leaves.tobytes().rstrip(b"\xff")
        leaves = leaves[: -(-len(there) // leaves.itemsize)]
    return FrameList(leaves)
