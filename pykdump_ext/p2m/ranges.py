# SPDX-License-Identifier: GPL-3.0-or-later
"""A p2m as ranges of pfns, each with its kind and its source."""

from __future__ import annotations

import enum
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ReadError
from ..machine.paging import NOT_MAPPED
from ..progress import watched
from .diagnosis import Diagnosis
from .entries import CODES, Kind, kind_codes
from .layouts import own_leaves
from .leaves import PFNS_PER_LEAF, read_leaf, read_leaves

__all__ = ["Range", "Source", "ranges"]

RUN = re.compile(rb"(.)\1*", re.DOTALL)


class Source(enum.Enum):
    """The source of a pfn's entry."""

    BOTH = "list and page tables"
    TABLES = "page tables only"
    LIST = "list only"
    SHARED = "shared page"


# A kind and a source as one byte: a run of equal bytes is a range
PAIRS = [(kind, source) for source in Source for kind in CODES]
# By source: the bytes of its pairs, by the codes of kinds
PAIRED = {
    source: bytes(PAIRS.index((kind, source)) for kind in CODES).ljust(256) for source in Source
}


Piece = tuple[int, int, Kind, Source]  # as a Range


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
    last: Piece | None = None
    for piece in _pieces(found):
        if last and (last[2], last[3]) == (piece[2], piece[3]):
            last = (last[0], piece[1], piece[2], piece[3])
            continue
        if last:
            yield Range(*last)
        last = piece
    if last:
        yield Range(*last)


def _pieces(found: Diagnosis) -> Iterator[Piece]:
    """Yield the p2m as pieces of ranges, in pfn order; a million leaves make as many pieces."""
    table = found.table
    shared = {table.missing_mfn, NOT_MAPPED}
    own = array("Q", (index for index, _ in own_leaves(table.leaves, shared)))
    mfns = (mfn for mfn in map(table.leaves.__getitem__, own) if mfn != table.identity_mfn)
    leaves = read_leaves(found.kernel.memory, mfns)
    next_pfn = 0
    for index in watched(own, len(own), "reading the p2m"):
        mfn = table.leaves[index]
        first = index * PFNS_PER_LEAF
        if next_pfn < first:
            yield next_pfn, first - 1, table.kind_of_missing, Source.SHARED
        next_pfn = min(first + PFNS_PER_LEAF, table.max_pfn)
        if mfn == table.identity_mfn:
            yield first, next_pfn - 1, Kind.IDENTITY, Source.SHARED
            continue
        leaf = next(leaves)[: (next_pfn - first) * 8]
        if table.may_be_shared(leaf):
            yield first, next_pfn - 1, Kind.EITHER, Source.SHARED
            continue
        pairs = _pairs(found, index, mfn, leaf)
        if pairs == pairs[:1] * len(pairs):
            kind, source = PAIRS[pairs[0]]
            yield first, next_pfn - 1, kind, source
            continue
        for run in RUN.finditer(pairs):
            kind, source = PAIRS[run[0][0]]
            yield first + run.start(), first + run.end() - 1, kind, source
    if next_pfn < table.max_pfn:
        yield next_pfn, table.max_pfn - 1, table.kind_of_missing, Source.SHARED


def _pairs(found: Diagnosis, index: int, mfn: int, leaf: bytes) -> bytes:
    """Return, for each entry of a leaf, the code of its kind and source, as in ``PAIRS``."""
    codes = kind_codes(leaf)
    if index in found.coverage.kept:
        return codes.translate(PAIRED[Source.LIST])
    listed = found.published.leaf(index)
    if listed == mfn:
        return codes.translate(PAIRED[Source.BOTH])
    try:
        other = b"" if listed is None else read_leaf(found.kernel.memory, listed)
    except ReadError:
        other = b""
    both, tables = codes.translate(PAIRED[Source.BOTH]), codes.translate(PAIRED[Source.TABLES])
    if not other:
        return tables
    return bytes(
        both[i] if leaf[i * 8 : i * 8 + 8] == other[i * 8 : i * 8 + 8] else tables[i]
        for i in range(len(codes))
    )
