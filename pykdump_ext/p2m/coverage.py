"""How much of a kernel's memory a published list covers, and whether a p2m is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ReadError
from ..kernel import Kernel
from ..memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory
from .entries import Kind, count, first_memory, kind_of
from .framelist import FrameList
from .layouts import PFNS_PER_LEAF, P2mTable


@dataclass
class Coverage:
    """A p2m against a published list.  All counts are of pfns, but for the leaves."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    covered: int = 0
    leaves: int = 0
    leaves_lost: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def memory(self) -> int:
        """How many pfns are memory."""
        return self.kinds[Kind.MEMORY]

    @property
    def complete(self) -> bool:
        """True when the list finds every pfn that is memory."""
        return self.covered == self.memory


def _leaf(memory: MachineMemory, mfn: int) -> bytes:
    return memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")


def measure(memory: MachineMemory, table: P2mTable, published: FrameList) -> Coverage:
    """Return how far ``published`` leads to the memory that ``table`` has.

    A leaf of the p2m is lost when the list names no leaf for its pfns, or one
    that has other entries for those of them that are memory.  ``lost`` has the
    ranges of pfns, first and last, of consecutive lost leaves.
    """
    result = Coverage()
    for index, mfn in enumerate(table.leaves):
        first = index * PFNS_PER_LEAF
        pfns = min(PFNS_PER_LEAF, table.max_pfn - first)
        if table.shared(mfn):
            kind = Kind.IDENTITY if mfn == table.identity_mfn else Kind.MISSING
            result.kinds[kind] += pfns
            continue
        result.leaves += 1
        try:
            leaf = _leaf(memory, mfn)[: pfns * 8]
        except ReadError as error:
            result.unreadable.append(str(error))
            continue
        for kind in Kind:
            result.kinds[kind] += count(leaf, kind)
        found = _found(memory, mfn, leaf, published.leaf(index))
        result.covered += found
        if found < count(leaf, Kind.MEMORY):
            result.leaves_lost += 1
            last = first + pfns - 1
            if result.lost and result.lost[-1][1] == first - 1:
                result.lost[-1] = (result.lost[-1][0], last)
            else:
                result.lost.append((first, last))
    return result


def _found(memory: MachineMemory, mfn: int, leaf: bytes, listed: int | None) -> int:
    """Return how many memory entries of ``leaf`` the listed leaf has as well."""
    if listed == mfn:
        return count(leaf, Kind.MEMORY)
    if listed is None:
        return 0
    try:
        other = _leaf(memory, listed)
    except ReadError:
        return 0
    return sum(a == b for a, b in zip(_memory_entries(leaf), _memory_entries(other)) if a is not None)


def _memory_entries(leaf: bytes) -> Iterator[int | None]:
    for position in range(0, len(leaf), 8):
        entry = int.from_bytes(leaf[position : position + 8], "little")
        yield entry if kind_of(entry) is Kind.MEMORY else None


@dataclass
class Check:
    """Sampled pfns for which the direct map and the p2m agree, and those where not."""

    agree: int = 0
    disagree: list[int] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True when something agreed, and no more than one in a hundred did not."""
        return bool(self.agree) and len(self.disagree) * 99 <= self.agree


def check_direct_map(kernel: Kernel, table: P2mTable, samples: int = 512) -> Check:
    """Compare the p2m with the kernel's direct map for up to ``samples`` pfns.

    The direct map is a second, independent way from a pfn to its mfn: the
    page-table entry of ``page_offset + pfn * 4096``.  One pfn of a leaf is
    looked at, in leaves spread evenly over the memory.  Where the direct map
    has no entry (memory given back to Xen) there is nothing to compare.
    """
    result = Check()
    base = kernel.page_offset()
    full = [(i, mfn) for i, mfn in enumerate(table.leaves) if not table.shared(mfn)]
    step = max(1, len(full) // samples)
    for index, mfn in full[::step]:
        try:
            leaf = _leaf(kernel.memory, mfn)
            offset = first_memory(leaf)
            if offset is None:
                continue
            pfn = index * PFNS_PER_LEAF + offset
            mapped = kernel.mfn_at(base + pfn * PAGE_SIZE, "direct map")
        except ReadError:
            continue
        if mapped == int.from_bytes(leaf[offset * 8 : offset * 8 + 8], "little"):
            result.agree += 1
        else:
            result.disagree.append(pfn)
    return result
