# SPDX-License-Identifier: GPL-3.0-or-later
"""Event channels in a made-up Xen."""

from __future__ import annotations

import struct

from .host import DIRECT_MAP, Host
from .machine import PAGE

AT = 22  # the word of struct domain that leads to the first bucket, in Xen 4.17
FREE, RESERVED, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI = range(7)
# of struct evtchn in bytes: its size, the port, the state; as in Xen 4.17, and as in 4.4
NEW, OLD, DEBUG = (64, 16, 12), (32, 4, 0), (64, 20, 12)

Made = dict[int, tuple[int, bytes]]  # by port: a state, and what it is bound to


def interdomain(host: Host, domain: int, port: int) -> tuple[int, bytes]:
    return INTERDOMAIN, struct.pack("<IIQ", port, 0, DIRECT_MAP + host.domains[domain] * PAGE)


def bucket(host: Host, first: int, made: Made, layout: tuple[int, int, int] = NEW) -> int:
    """Make a bucket, and return its address."""
    size, port_at, state_at = layout
    mfn = host.heap()
    page = host.machine.pages[mfn]
    for index in range(PAGE // size):
        struct.pack_into("<I", page, index * size + port_at, first + index)
        state, bound = made.get(first + index, (RESERVED if first + index == 0 else FREE, b""))
        page[index * size + state_at] = state
        at = index * size + (port_at + 4 + 7) // 8 * 8
        page[at : at + len(bound)] = bound
    return DIRECT_MAP + mfn * PAGE
