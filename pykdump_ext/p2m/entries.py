"""What the entries of a p2m leaf say (``arch/x86/include/asm/xen/page.h``).

An entry is 64 bits: the mfn of a page of the guest's memory, or one of three
other things, which its uppermost bits tell.
"""

from __future__ import annotations

import enum

__all__ = [
    "CODES",
    "FOREIGN_FRAME_BIT",
    "IDENTITY_FRAME_BIT",
    "INVALID_P2M_ENTRY",
    "Kind",
    "kind_codes",
    "kind_of",
]

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


# The uppermost byte of an entry tells its kind: bits 62 and 63 are in it, and
# an mfn has no more than 40 bits.  Looking at all the pages of a host one by one
# is too much for a Python loop; translating a string of their bytes is not.
CODES = {kind: code for code, kind in enumerate(Kind)}
_CODE_OF_TOP_BYTE = bytes(CODES[kind_of(top << 56)] for top in range(256))


def kind_codes(leaf: bytes) -> bytes:
    """Return the code (:data:`CODES`) of each entry of ``leaf``, 8 little-endian bytes each."""
    return leaf[7::8].translate(_CODE_OF_TOP_BYTE)
