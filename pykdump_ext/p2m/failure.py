# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways for a dump's list to be broken, and what crash prints for each.

The messages are those of crash 8.0.2 on real dumps broken in each way
(``tests/real/test_lists.py``), without addresses. Where a list leads to a frame that no machine
has, crash says ``read error`` on an ELF dump (``read_netdump()``), and ``seek error`` on a
compressed one (``read_diskdump()``).
"""

from __future__ import annotations

import enum
from functools import cache

from ..errors import ReadError
from ..xen.shared_info import LIST_INVALID
from .diagnosis import Diagnosis
from .framelist import LEAVES_PER_PAGE, FrameList
from .leaves import PFNS_PER_LEAF, has_memory, read_leaf
from .without_namelist import Mapped

__all__ = ["Failure", "failure_by_direct_map", "failure_of", "failure_of_list"]


class Failure(enum.Enum):
    """A way for a list to be broken: what it means, and the message that crash prints.

    ``ERROR`` in a message stands for ``read error`` or ``seek error``.
    """

    ABSENT = ("no list was published", "cannot read xen kdump p2m mfn page")
    UNREADABLE = ("the list is not in the dump", "cannot read xen kdump p2m mfn page")
    CIRCULAR = ("the list names itself", "vmlinux and vmcore do not match!")
    NO_LIST = (
        "the published page is not a list, or is another domain's list",
        "cannot read xen kdump p2m mfn list page, or: vmlinux and vmcore do not match!",
    )
    DAMAGED = (
        "a page of the list is damaged",
        'ERROR: physical address: ...  type: "xen_kdump_p2m mfn frame"',
    )
    HOLES = (
        "the list has empty entries in its middle",
        "malloc assertion failure, or other signs of damaged memory",
    )
    LEAVES_MISSING = (
        "the list lacks leaves in its middle",
        "ERROR: kernel virtual address: ...",
    )
    TRUNCATED = (
        "the list ends too early",
        'ERROR: kernel virtual address: ...  type: "current_task (per_cpu)",'
        ' then type: "tss_struct ist array"',
    )
    TOO_SHORT = (
        "the list cannot name memory above 512 GiB",
        "read error: kernel virtual address: ..., for memory above 512 GiB",
    )
    STALE = (
        "the list names leaves that are not the kernel's",
        "ERROR: kernel virtual address: ..., or: vmlinux and vmcore do not match!",
    )

    def __init__(self, meaning: str, crash_says: str) -> None:
        self.meaning = meaning
        self._crash_says = crash_says

    def crash_says(self, compressed: bool = False) -> str:
        """Return the message that crash prints, on an ELF dump or on a compressed one."""
        return self._crash_says.replace("ERROR", "seek error" if compressed else "read error")


def failure_of_list(frame_list_mfn: int, published: FrameList) -> Failure | None:
    """Return the failure of a list that shows without the kernel's own p2m, or None."""
    if frame_list_mfn in (0, LIST_INVALID):
        return Failure.ABSENT
    if not published.leaves:
        return Failure.UNREADABLE
    if published.leaf(0) == frame_list_mfn:
        return Failure.CIRCULAR
    return None


def failure_by_direct_map(
    frame_list_mfn: int, published: FrameList, mapped: Mapped
) -> Failure | None:
    """Return the failure of a list that the direct map shows, or None if it shows none."""
    if not mapped.lost:
        return failure_of_list(frame_list_mfn, published)
    plain = _failure_of_incomplete(frame_list_mfn, published, mapped.covered)
    if plain is not None:
        return plain
    ends = mapped.lost[0][0] > mapped.last_covered
    return Failure.TRUNCATED if ends else Failure.LEAVES_MISSING


def _failure_of_incomplete(
    frame_list_mfn: int, published: FrameList, covered: int
) -> Failure | None:
    """Return the failure of a list that lacks pages, or None: it depends on which it lacks.

    :param covered: how many pages it has.
    """
    plain = failure_of_list(frame_list_mfn, published)
    if plain is not None:
        return plain
    if not covered:
        return Failure.NO_LIST
    if published.gap is not None:
        return Failure.HOLES
    return Failure.DAMAGED if published.problems else None


def failure_of(found: Diagnosis) -> Failure | None:
    """Return the failure of a dump's list, or None if the list is whole."""
    if found.healthy:
        return None
    published, coverage = found.published, found.coverage
    plain = _failure_of_incomplete(found.hints.frame_list_mfn, published, coverage.covered)
    if plain is not None:
        return plain
    lost = [
        leaf
        for first, last in coverage.lost
        for leaf in range(first // PFNS_PER_LEAF, last // PFNS_PER_LEAF + 1)
    ]
    if lost[0] >= LEAVES_PER_PAGE**2:
        return Failure.TOO_SHORT

    @cache
    def is_leaf(mfn: int) -> bool:
        """Return True if the frame is a leaf with memory; a shared page has none."""
        return not found.table.shared(mfn) and has_memory(read_leaf(found.kernel.memory, mfn))

    def named(leaf: int) -> bool:
        mfn = published.leaf(leaf)
        return mfn is not None and is_leaf(mfn)

    try:
        if any(map(named, lost)):
            return Failure.STALE
        ends = not any(named(leaf) for leaf, _ in found.table.own_leaves() if leaf > lost[0])
    except ReadError:
        return Failure.DAMAGED
    return Failure.TRUNCATED if ends else Failure.LEAVES_MISSING
