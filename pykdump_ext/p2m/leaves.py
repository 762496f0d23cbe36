# SPDX-License-Identifier: GPL-3.0-or-later
"""The leaves of a p2m: pages of 512 entries of eight little-endian bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import ReadError
from ..machine.memory import (
    PAGE_SHIFT,
    PAGE_SIZE,
    WORDS_PER_PAGE,
    MachineMemory,
    read_pages,
)
from .entries import CODES, Kind, kind_codes

__all__ = [
    "LEAF",
    "PFNS_PER_LEAF",
    "entry_at",
    "has_memory",
    "leaf_count",
    "pfns_of_leaf",
    "read_entry",
    "read_leaf",
    "read_leaves",
]

PFNS_PER_LEAF = WORDS_PER_PAGE
LEAF = "p2m leaf"  # for messages


def leaf_count(pfns: int) -> int:
    """Return the number of leaves for ``pfns`` pfns."""
    return -(-pfns // PFNS_PER_LEAF)


def pfns_of_leaf(index: int, max_pfn: int) -> range:
    """Return the pfns of leaf ``index`` of a p2m of ``max_pfn`` pfns."""
    first = index * PFNS_PER_LEAF
    return range(first, min(first + PFNS_PER_LEAF, max_pfn))


def read_leaf(memory: MachineMemory, mfn: int, pfns: int = PFNS_PER_LEAF) -> bytes:
    """Return the first ``pfns`` entries of the leaf in machine frame ``mfn``.

    :raises ReadError: the frame is not in this memory.
    """
    return memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, LEAF)[: pfns * 8]


def read_leaves(memory: MachineMemory, mfns: Iterable[int]) -> Iterator[bytes]:
    """Yield the leaves in these machine frames, in order; see :func:`read_pages`.

    :raises ReadError: a frame is not in this memory.
    """
    for page in read_pages(memory, mfns, LEAF):
        if isinstance(page, ReadError):
            raise page
        yield page


def read_entry(memory: MachineMemory, mfn: int, pfn: int) -> int:
    """Return the entry of ``pfn``, whose leaf is in machine frame ``mfn``.

    :raises ReadError: the entry is not in this memory.
    """
    maddr = (mfn << PAGE_SHIFT) + pfn % PFNS_PER_LEAF * 8
    return int.from_bytes(memory.read(maddr, 8, "p2m entry"), "little")


def entry_at(leaf: bytes, offset: int) -> int:
    """Return entry number ``offset`` of a leaf."""
    return int.from_bytes(leaf[offset * 8 : offset * 8 + 8], "little")


def has_memory(leaf: bytes) -> bool:
    """Return True if an entry of the leaf is memory."""
    return CODES[Kind.MEMORY] in kind_codes(leaf)
