# SPDX-License-Identifier: GPL-3.0-or-later
"""Grant tables in a made-up Xen."""

from __future__ import annotations

import struct

from .host import DIRECT_MAP, Host
from .machine import PAGE

AT, POINTS = 33, 7  # words of struct domain and of struct grant_table, in Xen 4.17

Entry = tuple[int, int]  # flags, domain


def array_of(host: Host, mfns: list[int]) -> int:
    """Make an array of pointers to pages, and return its address; it is not at a page's start."""
    mfn = host.heap()
    for index, page in enumerate(mfns):
        host.machine.put(mfn, 20 + index, DIRECT_MAP + page * PAGE)
    return DIRECT_MAP + mfn * PAGE + 20 * 8


def grant_table(host: Host, domain: int, *pages: list[Entry], at: int = AT) -> list[int]:
    """Give a domain, by its place in the list, a grant table; return the mfns of its pages."""
    mfns = [host.heap(host.domains[domain]) for _ in pages]
    for mfn, page in zip(mfns, pages):
        for index, entry in enumerate(page):
            struct.pack_into("<HHI", host.machine.pages[mfn], index * 8, *entry, 5)
    table = host.heap()
    host.machine.put(table, POINTS, array_of(host, mfns))
    host.machine.put(host.domains[domain], at, DIRECT_MAP + table * PAGE)
    return mfns
