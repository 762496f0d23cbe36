# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of a p2m, and their kinds (``arch/x86/include/asm/xen/page.h``).

An entry has 64 bits. It is the mfn of a frame of the domain's own, unless its uppermost
bits mark it as missing, identity or foreign.
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
    """The kind of a pfn's entry.

    ``EITHER`` is no kind of an entry, but all that is known of a pfn whose leaf is a shared page,
    where no namelist tells whether that page is the one for missing or for identity leaves.
    """

    MEMORY = "memory"
    MISSING = "missing"
    IDENTITY = "identity"
    FOREIGN = "foreign"
    EITHER = "missing or identity"


def kind_of(entry: int) -> Kind:
    """Return the kind of the p2m entry ``entry``.

    An entry whose uppermost byte is all ones is missing: ``INVALID_P2M_ENTRY``, and what
    only damage can make.
    """
    if entry >> 56 == INVALID_P2M_ENTRY >> 56:
        return Kind.MISSING
    if entry & FOREIGN_FRAME_BIT:
        return Kind.FOREIGN
    if entry & IDENTITY_FRAME_BIT:
        return Kind.IDENTITY
    return Kind.MEMORY


# The uppermost byte of an entry is enough to know its kind: bits 62 and 63 are in it, and an
# mfn has at most 40 bits. A Python loop over all pages of a Xen host is too slow, so these
# bytes are translated in one call.
CODES = {kind: code for code, kind in enumerate(Kind)}
_CODE_OF_TOP_BYTE = bytes(CODES[kind_of(top << 56)] for top in range(256))


def kind_codes(leaf: bytes) -> bytes:
    """Return the code (:data:`CODES`) of each entry of ``leaf``, which has 8 bytes an entry."""
    return leaf[7::8].translate(_CODE_OF_TOP_BYTE)
