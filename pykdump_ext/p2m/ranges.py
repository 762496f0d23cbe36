"""A p2m as ranges of pfns: what is there, and where it is known from."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import ReadError
from ..memory import PAGE_SHIFT, PAGE_SIZE
from ..paging import NOT_MAPPED
from .diagnosis import Diagnosis
from .entries import Kind, kind_codes
from .layouts import PFNS_PER_LEAF, own_leaves

KINDS = tuple(Kind)
RUN = re.compile(rb"(.)\1*", re.DOTALL)


class Source(enum.Enum):
    """Where a pfn's entry is known from."""

    BOTH = "list and page tables"
    TABLES = "page tables only"
    LIST = "list only"
    SHARED = "shared page"


SOURCES = tuple(Source)


@dataclass(frozen=True)
class Range:
    """Pfns ``first`` to ``last``, both of it, that are of one kind and one source."""

    first: int
    last: int
    kind: Kind
    source: Source

    @property
    def pages(self) -> int:
        """How many pfns they are."""
        return self.last - self.first + 1


def ranges(found: Diagnosis) -> Iterator[Range]:
    """Yield a dump's whole p2m as ranges, in the order of pfns, none next to its equal.

    The list is the one the dump publishes.  A leaf that is a page shared by all
    that is missing, or identity, has source ``SHARED``.

    :raises ReadError: a leaf cannot be read.
    """
    return _joined(_pieces(found))


def _pieces(found: Diagnosis) -> Iterator[Range]:
    table = found.table
    next_pfn = 0
    for index, mfn in own_leaves(table.leaves, {table.missing_mfn, NOT_MAPPED}):
        first = index * PFNS_PER_LEAF
        if next_pfn < first:
            yield Range(next_pfn, first - 1, Kind.MISSING, Source.SHARED)
        next_pfn = min(first + PFNS_PER_LEAF, table.max_pfn)
        if mfn == table.identity_mfn:
            yield Range(first, next_pfn - 1, Kind.IDENTITY, Source.SHARED)
        else:
            yield from _own(found, index, mfn)
    if next_pfn < table.max_pfn:
        yield Range(next_pfn, table.max_pfn - 1, Kind.MISSING, Source.SHARED)


def _own(found: Diagnosis, index: int, mfn: int) -> Iterator[Range]:
    first = index * PFNS_PER_LEAF
    size = min(PFNS_PER_LEAF, found.table.max_pfn - first) * 8
    leaf = _read(found, mfn)[:size]
    sources = _sources(found, index, mfn, leaf)
    # both codes in one byte: a run of equal bytes is a range
    pairs = bytes(source * len(KINDS) + kind for source, kind in zip(sources, kind_codes(leaf)))
    for run in RUN.finditer(pairs):
        source, kind = divmod(run[0][0], len(KINDS))
        yield Range(first + run.start(), first + run.end() - 1, KINDS[kind], SOURCES[source])


def _sources(found: Diagnosis, index: int, mfn: int, leaf: bytes) -> bytes:
    """Return, for each entry of a leaf, the index of its source in :data:`SOURCES`."""
    entries = len(leaf) // 8
    both, tables, only_list = (
        bytes([SOURCES.index(source)]) for source in (Source.BOTH, Source.TABLES, Source.LIST)
    )
    if index in found.coverage.kept:
        return only_list * entries
    listed = found.published.leaf(index)
    if listed == mfn:
        return both * entries
    try:
        other = b"" if listed is None else _read(found, listed)
    except ReadError:
        other = b""
    return b"".join(
        both if leaf[at : at + 8] == other[at : at + 8] else tables
        for at in range(0, entries * 8, 8)
    )


def _read(found: Diagnosis, mfn: int) -> bytes:
    return found.kernel.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")


def _joined(pieces: Iterable[Range]) -> Iterator[Range]:
    last: Range | None = None
    for piece in pieces:
        if last and (last.kind, last.source) == (piece.kind, piece.source):
            last = Range(last.first, piece.last, last.kind, last.source)
        else:
            if last:
                yield last
            last = piece
    if last:
        yield last
