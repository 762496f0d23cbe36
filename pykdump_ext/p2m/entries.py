"""What the entries of a p2m leaf say (``arch/x86/include/asm/xen/page.h``).

An entry is 64 bits: the mfn of a page of the guest's memory, or one of three
other things, which its uppermost bits tell.
"""

from __future__ import annotations

import enum

INVALID_P2M_ENTRY = 0xFFFFFFFFFFFFFFFF
IDENTITY_FRAME_BIT = 1 << 62
FOREIGN_FRAME_BIT = 1 << 63


class Kind(enum.Enum):
    """What is behind a pfn."""

    MEMORY = "memory"
    MISSING = "missing"
    IDENTITY = "identity"
    FOREIGN = "foreign"


def kind_of(entry: int) -> Kind:
    """Return what the p2m entry ``entry`` says is there.

    ``INVALID_P2M_ENTRY`` is missing, and so is what only damage can make: an
    mfn that takes the uppermost byte.
    """
    if entry >> 56 == INVALID_P2M_ENTRY >> 56:
        return Kind.MISSING
    if entry & FOREIGN_FRAME_BIT:
        return Kind.FOREIGN
    if entry & IDENTITY_FRAME_BIT:
        return Kind.IDENTITY
    return Kind.MEMORY


def _top_bytes(first: int, last: int) -> bytes:
    return bytes(value for value in range(256) if not first <= value <= last)


# The uppermost byte of an entry tells its kind: bits 62 and 63 are in it, and
# an mfn has no more than 40 bits.  Counting over all the pages of a host is too
# much for a Python loop; deleting bytes from a string is not.
_OTHER_THAN = {
    Kind.MEMORY: _top_bytes(0x00, 0x3F),
    Kind.IDENTITY: _top_bytes(0x40, 0x7F),
    Kind.FOREIGN: _top_bytes(0x80, 0xFE),
    Kind.MISSING: _top_bytes(0xFF, 0xFF),
}


def count(leaf: bytes, kind: Kind) -> int:
    """Return how many entries of ``leaf`` (8 little-endian bytes each) are of ``kind``."""
    return len(leaf[7::8].translate(None, _OTHER_THAN[kind]))


def first_memory(leaf: bytes) -> int | None:
    """Return the index of the first entry of ``leaf`` that is memory, or None."""
    for index, top in enumerate(leaf[7::8]):
        if top < 0x40:
            return index
    return None
