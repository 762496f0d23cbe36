# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a frame list, for crash and other tools to read in machine memory."""

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
    """A frame list in machine frames from ``mfn`` on; the note must have ``top`` as its mfn."""

    mfn: int
    top: int
    data: bytes
    leaves: array[int]

    @property
    def frames(self) -> int:
        """The number of machine frames that the list takes."""
        return len(self.data) >> PAGE_SHIFT


def pages_needed(leaves: int) -> int:
    """Return the largest number of pages that a list of ``leaves`` leaves takes."""
    return min(-(-leaves // WORDS_PER_PAGE), WORDS_PER_PAGE) + 3


def list_pages(frames: FrameList, missing_mfn: int, mfn: int) -> ListPages:
    """Return the pages of a list that names these leaves, for machine frames from ``mfn`` on.

    As in a kernel's list, a missing leaf, also one after the last, is named by the mfn of a
    page full of missing entries: crash takes a zero for the list's end, and reads every
    leaf. That page is one of those returned, because the kernel's own, ``missing_mfn``, may
    be damaged. Equal pages are returned once.
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
