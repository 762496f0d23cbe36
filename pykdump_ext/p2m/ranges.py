# SPDX-License-Identifier: GPL-3.0-or-later
"""A p2m as ranges of pfns, each with its kind and its source."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import ReadError
from ..machine.paging import NOT_MAPPED
from .diagnosis import Diagnosis
from .entries import Kind, kind_codes
from .layouts import own_leaves
from .leaves import pfns_of_leaf, read_leaf

__all__ = ["Range", "Source", "ranges"]

KINDS = tuple(Kind)
RUN = re.compile(rb"(.)\1*", re.DOTALL)


class Source(enum.Enum):
    """The source of a pfn's entry."""

    BOTH = "list and page tables"
    TABLES = "page tables only"
    LIST = "list only"
    SHARED = "shared page"


SOURCES = tuple(Source)


@dataclass(frozen=True)
class Range:
    """Pfns ``first`` to ``last``, both included, of one kind and one source."""

    first: int
    last: int
    kind: Kind
    source: Source

    @property
    def pages(self) -> int:
        """The number of pfns."""
        return self.last - self.first + 1


def ranges(found: Diagnosis) -> Iterator[Range]:
    """Yield a dump's whole p2m as ranges, in pfn order; neighbours differ in kind or source.

    ``BOTH`` and ``LIST`` mean the dump's list. A leaf that is the shared missing or identity
    page has source ``SHARED``.

    :raises ReadError: a leaf cannot be read.
    """
    return _joined(_pieces(found))


def _pieces(found: Diagnosis) -> Iterator[Range]:
    table = found.table
    next_pfn = 0
    for index, mfn in own_leaves(table.leaves, {table.missing_mfn, NOT_MAPPED}):
        pfns = pfns_of_leaf(index, table.max_pfn)
        if next_pfn < pfns.start:
            yield Range(next_pfn, pfns.start - 1, table.kind_of_missing, Source.SHARED)
        next_pfn = pfns.stop
        if mfn == table.identity_mfn:
            yield Range(pfns.start, pfns.stop - 1, Kind.IDENTITY, Source.SHARED)
        else:
            yield from _own(found, index, mfn)
    if next_pfn < table.max_pfn:
        yield Range(next_pfn, table.max_pfn - 1, table.kind_of_missing, Source.SHARED)


def _own(found: Diagnosis, index: int, mfn: int) -> Iterator[Range]:
    pfns = pfns_of_leaf(index, found.table.max_pfn)
    leaf = read_leaf(found.kernel.memory, mfn, len(pfns))
    if found.table.may_be_shared(leaf):
        yield Range(pfns.start, pfns.stop - 1, Kind.EITHER, Source.SHARED)
        return
    sources = _sources(found, index, mfn, leaf)
    # both codes in one byte: a run of equal bytes is a range
    pairs = bytes(source * len(KINDS) + kind for source, kind in zip(sources, kind_codes(leaf)))
    for run in RUN.finditer(pairs):
        source, kind = divmod(run[0][0], len(KINDS))
        yield Range(pfns[run.start()], pfns[run.end() - 1], KINDS[kind], SOURCES[source])


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
        other = b"" if listed is None else read_leaf(found.kernel.memory, listed)
    except ReadError:
        other = b""
    return b"".join(
        both if leaf[at : at + 8] == other[at : at + 8] else tables
        for at in range(0, entries * 8, 8)
    )


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
