# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of a p2m with the kernel's direct map and Xen's m2p, page by page.

For a pfn that is memory, the p2m's entry must be the mfn that the direct map has for the
pfn, and the m2p must have the pfn for that mfn.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice

from ..errors import ReadError
from ..linux.kernel import Kernel
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, WORDS_PER_PAGE, read_runs, runs_of
from ..machine.paging import ADDRESS_MASK, NOT_MAPPED, PRESENT
from ..machine.vectors import Booleans, Places, Words, np
from ..progress import watched
from .coverage import DirectMap
from .diagnosis import Diagnosis
from .entries import IDENTITY_FRAME_BIT
from .leaves import LEAF, PFNS_PER_LEAF, pfns_of_leaf
from .m2p import M2P, m2p_start

__all__ = [
    "DIRECT_MAP",
    "Disagreement",
    "Verification",
    "sample",
    "verify",
]

DIRECT_MAP = "direct map"

LEAVES_AT_ONCE = 64  # 256 KiB of p2m
# Pages whose frames are looked up in the m2p together, 16 bytes each. Fragmented memory has its
# frames anywhere, so that each such lookup reads all of the m2p.
NUMBER_BITS = 24  # of a page's number among them, which shares a word with its mfn
MOST_PAGES = 1 << NUMBER_BITS
MFN_BITS = 64 - NUMBER_BITS  # x86-64 has machine addresses of 52 bits at most
PIECE_SHIFT = 18
PIECE = 1 << PIECE_SHIFT  # entries of the m2p that are read together, 2 MiB
PIECE_PAGES = PIECE // WORDS_PER_PAGE
NONE = np.empty(0, np.intp)


@dataclass
class Tally:
    """The number of pages on which a table agrees, on which it differs, and that it lacks."""

    agree: int = 0
    differ: int = 0
    absent: int = 0


@dataclass(frozen=True)
class Disagreement:
    """Pfns ``first`` to ``last``, both included, on which ``table`` contradicts the p2m.

    ``p2m`` is the mfn that the p2m has for the first of them. ``other`` is the mfn that the
    direct map has for it, or the pfn that the m2p has for the mfn.
    """

    table: str
    first: int
    last: int
    p2m: int
    other: int


class Ranges:
    """Ranges of pfns on which a table disagrees; as words, since there may be millions."""

    def __init__(self) -> None:
        self._columns = [array("Q") for _ in range(4)]  # as in Disagreement

    def add(self, pfns: Words, entries: Words, others: Words) -> None:
        """Add pages in the order of their pfns, which are above all that were added before."""
        if not len(pfns):
            return
        breaks = np.flatnonzero(pfns[1:] != pfns[:-1] + 1)
        starts = np.concatenate(([0], breaks + 1))
        lasts = pfns[np.concatenate((breaks, [len(pfns) - 1]))]
        known = self._columns[1]
        if known and int(pfns[0]) == known[-1] + 1:
            known[-1] = int(lasts[0])
            starts, lasts = starts[1:], lasts[1:]
        columns = (pfns[starts], lasts, entries[starts], others[starts])
        for column, words in zip(self._columns, columns):
            column.frombytes(words.tobytes())

    def of(self, table: str) -> Iterator[Disagreement]:
        """Yield them as the disagreements of a table."""
        return (Disagreement(table, *row) for row in zip(*self._columns))


@dataclass
class Verification:
    """The result of comparing ``looked_at`` of ``leaves`` leaves, which hold ``pages`` pages."""

    leaves: int
    looked_at: int
    pages: int = 0
    direct_map: Tally = field(default_factory=Tally)
    m2p: Tally = field(default_factory=Tally)
    ranges: dict[str, Ranges] = field(default_factory=lambda: {DIRECT_MAP: Ranges(), M2P: Ranges()})

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what the tables contradict, in the order of the first pfns."""
        found = (ranges.of(table) for table, ranges in self.ranges.items())
        return merge(*found, key=lambda one: one.first)


class MachineToPhys:
    """Xen's m2p, read through the kernel's page tables."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._base = m2p_start(kernel)
        self._words = np.empty(PIECE, np.uint64)

    def pfns(self, piece: int, mfns: Words) -> tuple[Words, Booleans]:
        """Return what the m2p has for each of these mfns, and whether the dump has that part of it.

        :param piece: the piece of the m2p in which all of them are.
        """
        places = mfns & PIECE - 1
        pages = places // WORDS_PER_PAGE
        wanted = np.zeros(PIECE_PAGES, np.bool_)
        wanted[pages] = True
        known = self._read(piece, np.flatnonzero(wanted))
        return self._words[places], known[pages]

    def _read(self, number: int, wanted: Places) -> Booleans:
        """Read a piece of the m2p; return which of its pages are in the dump.

        :param wanted: the numbers of the pages that matter; the others may be read or not.
        """
        first, last = int(wanted[0]), int(wanted[-1])
        if len(wanted) * 8 > last - first:
            wanted = np.arange(first, last + 1)
        vaddr = self._base + (number * PIECE_PAGES + first) * PAGE_SIZE
        frames = np.frombuffer(self._frames(vaddr, last - first + 1), np.uint64)[wanted - first]
        mapped = frames != NOT_MAPPED
        wanted, frames = wanted[mapped], frames[mapped]
        known = np.zeros(PIECE_PAGES, np.bool_)
        if not len(frames):
            return known
        starts = [0, *(np.flatnonzero(frames[1:] != frames[:-1] + 1) + 1).tolist(), len(frames)]
        runs = [(int(frames[at]), end - at) for at, end in zip(starts, starts[1:])]
        words = self._words.reshape(PIECE_PAGES, WORDS_PER_PAGE)
        at = 0
        for count, content in read_runs(self._kernel.memory, runs, M2P):
            if not isinstance(content, ReadError):
                pages = wanted[at : at + count]
                words[pages] = np.frombuffer(content, np.uint64).reshape(count, WORDS_PER_PAGE)
                known[pages] = True
            at += count
        return known

    def _frames(self, vaddr: int, count: int) -> array[int]:
        """Return the mfns of pages, ``NOT_MAPPED`` for each that cannot be found."""
        try:
            return self._kernel.tables.frames(vaddr, count)
        except ReadError:
            if count == 1:
                return array("Q", [NOT_MAPPED])
        parts = (self._frames(vaddr + page * PAGE_SIZE, 1) for page in range(count))
        return array("Q", [part[0] for part in parts])


def sample(found: Diagnosis, most: int) -> array[int]:
    """Return the indices of at most ``most`` leaves, spread evenly over the memory."""
    leaves = found.table.own_indices()
    return leaves[:: max(1, -(-len(leaves) // most))]


def verify(found: Diagnosis, leaves: array[int]) -> Verification:
    """Compare the three tables for every pfn that is memory in these leaves.

    :param leaves: the indices of the leaves to compare, in order; see :func:`sample`.
    :raises ReadError: a leaf cannot be read.
    """
    result = Verification(len(found.table.own_indices()), len(leaves))
    direct_map = DirectMap(found.kernel)
    lookups = _Lookups(found, result)
    starts = range(0, len(leaves), LEAVES_AT_ONCE)
    for start in watched(starts, len(starts), "comparing leaves"):
        part = leaves[start : start + LEAVES_AT_ONCE]
        entries, pfns = _entries(found, part)
        memory = (entries < IDENTITY_FRAME_BIT) & (pfns < found.table.max_pfn)
        entries, pfns = entries[memory], pfns[memory]
        result.pages += len(pfns)
        mapped = _mapped(found, direct_map, part)[memory]
        wrong = _count(result.direct_map, entries, mapped, mapped != NOT_MAPPED)
        result.ranges[DIRECT_MAP].add(pfns[wrong], entries[wrong], mapped[wrong])
        lookups.add(entries, pfns)
    lookups.finish()
    return result


class _Lookups:
    """Pages that wait for the m2p: a piece of it is read for all that have their frames there."""

    def __init__(self, found: Diagnosis, result: Verification) -> None:
        self._m2p = MachineToPhys(found.kernel)
        self._tally, self._ranges = result.m2p, result.ranges[M2P]
        # what nothing is written to takes no memory
        self._numbered = np.empty(MOST_PAGES, np.uint64)  # mfn and number of each page
        self._pfns = np.empty(MOST_PAGES, np.uint64)  # by number
        self._pages = 0

    def add(self, entries: Words, pfns: Words) -> None:
        """Add pages of a few leaves, which are above all that were added before."""
        possible = entries >> MFN_BITS == 0
        entries, pfns = entries[possible], pfns[possible]
        self._tally.absent += len(possible) - len(pfns)
        if self._pages + len(pfns) > MOST_PAGES:
            self.finish()
        end = self._pages + len(pfns)
        numbers = np.arange(self._pages, end, dtype=np.uint64)
        self._numbered[self._pages : end] = entries << NUMBER_BITS | numbers
        self._pfns[self._pages : end] = pfns
        self._pages = end

    def finish(self) -> None:
        """Compare all pages that wait."""
        numbered = self._numbered[: self._pages]
        numbered.sort()  # by mfn
        wrong = [np.empty((3, 0), np.uint64)]
        start = 0
        while start < len(numbered):
            piece = int(numbered[start]) >> NUMBER_BITS + PIECE_SHIFT
            last = (piece + 1 << NUMBER_BITS + PIECE_SHIFT) - 1
            end = int(np.searchsorted(numbered, np.uint64(last), "right"))
            mfns = numbered[start:end] >> np.uint64(NUMBER_BITS)
            pfns = self._pfns[numbered[start:end] & MOST_PAGES - 1]
            others, there = self._m2p.pfns(piece, mfns)
            bad = _count(self._tally, pfns, others, there)
            if len(bad):
                wrong.append(np.array((pfns[bad], mfns[bad], others[bad])))
            start = end
        columns = np.concatenate(wrong, axis=1)
        self._ranges.add(*columns[:, np.argsort(columns[0], kind="stable")])
        self._pages = 0


def _count(tally: Tally, expected: Words, others: Words, there: Booleans) -> Places:
    """Count on how many pages a table has what is expected; return the places where it differs.

    :param there: where the table has something at all.
    """
    agree = (others == expected) & there
    agreed = int(np.count_nonzero(agree))
    wrong = np.flatnonzero(there & ~agree) if agreed < len(agree) else NONE
    tally.agree += agreed
    tally.differ += len(wrong)
    tally.absent += len(agree) - agreed - len(wrong)
    return wrong


def _entries(found: Diagnosis, leaves: array[int]) -> tuple[Words, Words]:
    """Return all entries of these leaves, and the pfn of each."""
    contents = []
    mfns = [found.table.leaves[index] for index in leaves]
    for _, content in read_runs(found.kernel.memory, runs_of(mfns), LEAF):
        if isinstance(content, ReadError):
            raise content
        contents.append(content)
    pfns: Words = np.array(leaves, np.uint64).repeat(PFNS_PER_LEAF) * PFNS_PER_LEAF
    pfns += np.tile(np.arange(PFNS_PER_LEAF, dtype=np.uint64), len(leaves))
    return np.frombuffer(b"".join(contents), np.uint64), pfns


def _mapped(found: Diagnosis, direct_map: DirectMap, leaves: array[int]) -> Words:
    """Return the mfn that the direct map has for each pfn of these leaves, or ``NOT_MAPPED``."""
    mapped = np.full((len(leaves), PFNS_PER_LEAF), NOT_MAPPED, np.uint64)
    tables = [(place, direct_map.table(index)) for place, index in enumerate(leaves)]
    for place, table in tables:
        if table is None:
            pfns = pfns_of_leaf(leaves[place], found.table.max_pfn)
            frames = direct_map.frames(pfns.start, len(pfns))
            mapped[place, : len(pfns)] = np.frombuffer(frames, np.uint64)
    there = [(place, table) for place, table in tables if table is not None]
    places = iter(there)
    runs = runs_of(mfn for _, mfn in there)
    for count, content in read_runs(found.kernel.memory, runs, "PTE page"):
        rows = [place for place, _ in islice(places, count)]
        if not isinstance(content, ReadError):
            entries = np.frombuffer(content, np.uint64).reshape(count, -1)
            frames_of = (entries & ADDRESS_MASK) >> PAGE_SHIFT
            frames_of[entries & PRESENT == 0] = NOT_MAPPED
            mapped[rows] = frames_of
    return mapped.ravel()
