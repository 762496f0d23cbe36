"""The pages of a p2m list, as they stand in machine memory for crash and other tools to read."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.memory import PAGE_SHIFT, WORDS_PER_PAGE
from ..machine.paging import NOT_MAPPED
from .entries import INVALID_P2M_ENTRY
from .framelist import FrameList
from .layouts import with_replaced

__all__ = ["LARGEST_LIST", "ListPages", "list_pages", "pages_needed"]

LARGEST_LIST = WORDS_PER_PAGE * WORDS_PER_PAGE  # leaves: 512 GiB of pfns


@dataclass(frozen=True)
class ListPages:
    """A list as it stands in machine frames from ``mfn`` on; ``top`` is what the note must say."""

    mfn: int
    top: int
    data: bytes
    leaves: array[int]

    @property
    def frames(self) -> int:
        """How many machine frames it takes."""
        return len(self.data) >> PAGE_SHIFT


def pages_needed(leaves: int) -> int:
    """Return how many pages a list of so many leaves takes at most."""
    return min(-(-leaves // WORDS_PER_PAGE), WORDS_PER_PAGE) + 3


def list_pages(frames: FrameList, missing_mfn: int, mfn: int) -> ListPages:
    """Return the pages of a list that names these leaves, for machine frames from ``mfn`` on.

    What is missing is told as kernels tell it, by naming a leaf full of missing
    entries, also behind the last leaf: crash takes a zero for the list's end,
    and reads every leaf.  That leaf is one of these pages, whatever has become
    of the kernel's own, ``missing_mfn``.  Pages that are the same are one.
    """
    numbers: dict[bytes, int] = {}

    def page(words: Sequence[int]) -> int:
        return mfn + numbers.setdefault(struct.pack("<512Q", *words), len(numbers))

    missing = page([INVALID_P2M_ENTRY] * WORDS_PER_PAGE)
    leaves = frames.leaves[:LARGEST_LIST]
    for nothing in (0, NOT_MAPPED, missing_mfn):
        leaves = with_replaced(leaves, nothing, missing)
    leaves.extend(array("Q", [missing]) * (LARGEST_LIST - len(leaves)))
    starts = range(0, LARGEST_LIST, WORDS_PER_PAGE)
    top = page([page(leaves[start : start + WORDS_PER_PAGE]) for start in starts])
    return ListPages(mfn, top, b"".join(numbers), leaves)
