"""The list of p2m leaves that a kernel publishes for tools like crash.

``pfn_to_mfn_frame_list_list`` (``xen/include/public/arch-x86/xen.h``) is the
mfn of one page of up to 512 mfns of pages of up to 512 mfns of p2m leaves.
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
    """A list of leaves by mfn; 0 where it names none.

    ``problems`` has a sentence for each part of a published list that could
    not be read, or that crash could not read.
    """

    leaves: array[int]
    problems: tuple[str, ...] = field(default=())

    def leaf(self, index: int) -> int | None:
        """Return the mfn of leaf ``index``, or None where the list names none."""
        mfn = self.leaves[index] if index < len(self.leaves) else 0
        return mfn if mfn not in (0, NOT_MAPPED) else None

    @property
    def gap(self) -> int | None:
        """The index of the first entry that is zero with others behind it, or None.

        crash takes as many entries from the beginning of each page as are not
        zero (``x86_64_xen_kdump_p2m_create()``): what is behind a gap it misreads.
        """
        used = -(-len(self.leaves.tobytes().rstrip(b"\0")) // self.leaves.itemsize)
        return self.leaves.index(0) if 0 in self.leaves[:used] else None


def read_list(memory: MachineMemory, list_list_mfn: int) -> FrameList:
    """Return the list published at ``list_list_mfn``, as far as it can be read.

    Damage is no error here: a page that cannot be read counts as one that
    names no leaf, and is told in ``problems``.
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
    """Yield what keeps crash from reading by this list, even if it names every leaf.

    A gap; or a leaf that cannot be read: crash reads one after the other to find
    the pfn of a frame (``__xen_pvops_m2p_hyper()``), and one that fails ends it.
    """
    if published.gap is not None:
        yield f"the list has a gap at leaf {published.gap:,}: crash misreads what is behind it"
    shared = (0, table.missing_mfn, table.identity_mfn)
    strange = set(published.leaves).difference(table.leaves, shared)
    for mfn in sorted(strange):
        try:
            read_leaf(memory, mfn)
        except ReadError as error:
            yield str(error)
            return


def build_list(table: P2mTable) -> FrameList:
    """Return the list a correct kernel would have published for ``table``.

    For every leaf that holds memory it is the one ``xen_build_mfn_list_list()``
    of ``arch/x86/xen/p2m.c`` builds with ``xen_max_p2m_pfn == max_pfn``.  Leaves
    of identity entries are missing here; a kernel's own list may name the page
    it shares for them, which reads as missing too.  It ends with the last leaf
    there is: a damaged ``max_pfn`` can ask for many that are nowhere.
    """
    leaves = table.leaves
    if table.identity_mfn is not None:
        leaves = with_replaced(leaves, table.identity_mfn, table.missing_mfn)
    if table.missing_mfn == NOT_MAPPED:
        there = leaves.tobytes().rstrip(b"\xff")
        leaves = leaves[: -(-len(there) // leaves.itemsize)]
    return FrameList(leaves)
