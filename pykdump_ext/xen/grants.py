# SPDX-License-Identifier: GPL-3.0-or-later
"""Grant tables of version 1: which domain lets which other use how many of its pages.

A domain's table is in pages of Xen's heap that it shares, and has the layout of
xen/include/public/grant_table.h. Linux takes version 2 only where a frame number may need more
than 32 bits. While another domain has a page mapped, or is copying from or to it, Xen has that
noted in the page's entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable
from dataclasses import dataclass

from ..errors import P2mError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory

__all__ = ["Grants", "read_grants"]

TYPE, PERMIT_ACCESS = 3, 1  # GTF_type_mask, GTF_permit_access
IN_USE = 8 | 16  # GTF_reading, GTF_writing
FLAGS = 0x1FF  # all that there are, GTF_sub_page the last
DOMID_SHIFT, DOMID = 16, 0xFFFF
FIRST_RESERVED = 0x7FF0  # DOMID_FIRST_RESERVED


@dataclass
class Grants:
    """Pages that a domain grants to another, and how many of them that one uses."""

    pages: int = 0
    in_use: int = 0


def read_grants(
    memory: MachineMemory, mfns: Iterable[int], domains: Container[int]
) -> dict[int, Grants]:
    """Return what a domain grants, by the id of the domain that it is granted to.

    :param mfns: the pages of the domain's grant table.
    :param domains: the ids of all domains.
    :raises P2mError: a page cannot be read, or is not of a grant table of version 1.
    """
    found: dict[int, Grants] = {}
    for mfn in mfns:
        for entry in array("Q", memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "grant table")):
            domain = entry >> DOMID_SHIFT & DOMID
            known = domain in domains or domain >= FIRST_RESERVED
            if entry & DOMID & ~FLAGS or (entry & TYPE and not known):
                raise P2mError(
                    f"mfn {mfn:x} is not a page of a grant table of version 1, the only one that is"
                    " read"
                )
            if entry & TYPE == PERMIT_ACCESS:
                grants = found.setdefault(domain, Grants())
                grants.pages += 1
                grants.in_use += bool(entry & IN_USE)
    return found
