# SPDX-License-Identifier: GPL-3.0-or-later
"""What a p2m says, before it is put anywhere: cells, leaves, all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from pykdump_ext.p2m.entries import Kind

from .machine import FOREIGN_BIT, IDENTITY_BIT, NOTHING

KINDS = tuple(kind for kind in Kind if kind is not Kind.EITHER)  # of an entry
Cell = tuple[Kind, int]  # the int is an mfn, for memory and foreign frames


def entry_of(cell: Cell, pfn: int) -> int:
    """Return the word that stands in a leaf for ``cell``."""
    kind, mfn = cell
    if kind is Kind.MEMORY:
        return mfn
    if kind is Kind.FOREIGN:
        return mfn | FOREIGN_BIT
    return NOTHING if kind is Kind.MISSING else pfn | IDENTITY_BIT


@dataclass
class P2m:
    """What a p2m says.

    ``own`` has the leaves with a page of their own, 512 cells each.  Those in
    ``identity`` are the shared identity page; all others the missing one.
    """

    max_pfn: int
    own: dict[int, list[Cell]] = field(default_factory=dict)
    identity: frozenset[int] = frozenset()

    @property
    def leaf_total(self) -> int:
        return (self.max_pfn + 511) // 512

    def pfns_in(self, leaf: int) -> int:
        """Return how many pfns below ``max_pfn`` leaf number ``leaf`` has."""
        return min(512, self.max_pfn - leaf * 512)

    def cell(self, pfn: int) -> Cell:
        leaf = pfn // 512
        if leaf in self.own:
            return self.own[leaf][pfn % 512]
        return (Kind.IDENTITY if leaf in self.identity else Kind.MISSING, 0)

    def memory(self) -> dict[int, int]:
        """Return the mfn of every pfn that is memory."""
        return {
            leaf * 512 + i: mfn
            for leaf, cells in self.own.items()
            for i, (kind, mfn) in enumerate(cells[: self.pfns_in(leaf)])
            if kind is Kind.MEMORY
        }

    @property
    def leaves_with_memory(self) -> list[int]:
        return sorted({pfn // 512 for pfn in self.memory()})

    def count(self, kind: Kind) -> int:
        """Return how many pfns are of ``kind``."""
        total = sum(
            1
            for leaf, cells in self.own.items()
            for cell in cells[: self.pfns_in(leaf)]
            if cell[0] is kind
        )
        for leaf in range(self.leaf_total):
            if leaf not in self.own:
                shared = Kind.IDENTITY if leaf in self.identity else Kind.MISSING
                total += self.pfns_in(leaf) if shared is kind else 0
        return total


def random_cells(random: Random, kinds: Sequence[Kind] = KINDS) -> list[Cell]:
    """Return a leaf's worth of cells of these kinds, in runs, as memory comes."""
    cells: list[Cell] = []
    while len(cells) < 512:
        kind = random.choice(kinds)
        cells += [(kind, random.randrange(2**20, 2**40)) for _ in range(random.randrange(1, 90))]
    return cells[:512]


def memory_cells(amount: int = 1, leaves: int = 1) -> dict[int, list[Cell]]:
    """Return leaves with memory, by number."""
    random = Random(amount)
    return {i: random_cells(random, [Kind.MEMORY]) for i in range(leaves)}


def own_leaves(count: int, total: int | None = None, *kinds: Kind) -> P2m:
    """Return a p2m of ``total`` leaves, the first ``count`` of them with memory."""
    random = Random(count)
    own = {i: random_cells(random, kinds or (Kind.MEMORY,)) for i in range(count)}
    return P2m((total or count) * 512, own)


P2M = P2m(2048, {0: [(Kind.MEMORY, 0x5000 + i) for i in range(512)],
                 2: [(Kind.MEMORY, 0x9000 + i) for i in range(512)]})  # fmt: skip
