# SPDX-License-Identifier: GPL-3.0-or-later
"""The UUID of each domain: the handle that the toolstack gave it, in ``struct domain``.

No note says where it is. It is found by what is behind it in Xen 4.4 to 4.21
(xen/include/xen/sched.h): a pointer to a buffer in Xen's heap, ``pbuf`` (from Xen commit
48d50de8e0 to ada5306708), with the number of characters in it; then, within a few words, the
domain's two watchdog timers, which have one function of Xen and the address of the domain.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from ..errors import ReadError
from .domains import XEN_IMAGE_MASK, Domain, Xen

__all__ = ["find_uuids"]

HANDLE = 2  # words
TIMER = 16  # words at most from one timer to the next; struct timer has 5 to 8
BETWEEN = 16  # words at most from the handle to the first timer's function; in Xen 4.17 11
DOMAIN_PBUF_SIZE = 200  # since 4.11, Xen commit edef87f0d4; before it is 80


def find_uuids(xen: Xen, domains: Sequence[Domain]) -> dict[int, UUID] | None:
    """Return the UUID of each domain by its id, or None if it is not clear where they are.

    dom0's is zero, unless its toolstack gave it one.
    """
    structs: list[tuple[int, array[int]]] = []
    places: set[int] | None = None
    for domain in domains:
        try:
            data = xen.tables.read(domain.vaddr, xen.domain_size & ~7, "struct domain")
            words = array("Q", data)
        except ReadError:
            continue
        structs.append((domain.id, words))
        own = set(_places(xen, domain.vaddr, words))
        places = own if places is None else places & own
    if not places or len(places) > 1:
        return None
    (at,) = places
    return {number: UUID(bytes=words[at : at + HANDLE].tobytes()) for number, words in structs}


def _places(xen: Xen, vaddr: int, words: array[int]) -> Iterator[int]:
    """Yield each word of a ``struct domain`` that may begin the handle."""
    for timer in _timers(xen, vaddr, words):
        for at in range(max(timer - BETWEEN, 0), timer - HANDLE - 1):
            buffer, used = words[at + HANDLE], words[at + HANDLE + 1] & 0xFFFFFFFF
            if used < DOMAIN_PBUF_SIZE and xen.frames.is_heap(buffer):
                yield at


def _timers(xen: Xen, vaddr: int, words: array[int]) -> Iterable[int]:
    """Return where the function of the first of two timers with the domain's address may be."""
    mine = [at for at, word in enumerate(words) if word == vaddr and at]
    return [
        first - 1
        for first, second in zip(mine, mine[1:])
        if second - first <= TIMER
        and words[first - 1] == words[second - 1]
        and words[first - 1] & ~XEN_IMAGE_MASK == xen.image
    ]
