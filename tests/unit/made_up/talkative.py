# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up guest that publishes, in its shared_info, where its p2m is."""

from __future__ import annotations

from .guest import Guest, guest_with
from .machine import DIRECT_MAP, KERNEL_MAP, P2M_AREA, PAGE, Machine
from .p2m import P2M, P2m

SHARED_INFO = 0xFFFFFFFFFF57C000
TEXT = 0x1000000
# struct shared_info, in words: arch.max_pfn and what follows it
MAX_PFN, LIST, NMI_REASON, CR3, VADDR = 386, 387, 388, 389, 390


def map_text(guest: Guest, mfn: int | None = None) -> None:
    """Map the first page of the kernel's text where it is linked and in the direct map."""
    mfn = mfn or guest.machine.frame()
    guest.space.map(KERNEL_MAP + TEXT, mfn)
    guest.space.map(DIRECT_MAP + TEXT, mfn)


def talkative(p2m: P2m, published: int = 1) -> Guest:
    """A guest with shared_info, and with something else mapped right behind its p2m."""
    guest, _ = guest_with("linear", p2m, published)
    tell(guest, p2m)
    return guest


def named(banner: bytes) -> Guest:
    """Return a kernel with that banner, which publishes its p2m."""
    guest = Guest(Machine(), banner)
    planted = guest.plant("linear", P2M)
    guest.direct_map(P2M.memory())
    guest.publish(P2M, planted)
    tell(guest, P2M)
    return guest


def tell(guest: Guest, p2m: P2m) -> None:
    """Make a guest with a linear p2m publish where it is, and map something right behind it."""
    words = [0] * 512
    words[MAX_PFN], words[LIST] = 512, guest.list_mfn
    words[CR3], words[VADDR] = guest.root, P2M_AREA
    guest.space.map(SHARED_INFO - PAGE, guest.machine.frame([1] * 512))
    guest.space.map(SHARED_INFO, guest.machine.frame(words))
    map_text(guest, p2m.memory().get(TEXT // PAGE))
    behind = P2M_AREA + (p2m.leaf_total + 511) // 512 * 512 * PAGE
    guest.space.map(behind, guest.machine.frame(range(512)))
    guest.space.map(behind + PAGE, 0xFEE00)  # a device's


def word(guest: Guest, index: int, value: int) -> None:
    """Change a word of shared_info."""
    guest.machine.put((guest.space.maddr(SHARED_INFO) or 0) // PAGE, index, value)
