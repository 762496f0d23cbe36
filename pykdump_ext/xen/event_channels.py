# SPDX-License-Identifier: GPL-3.0-or-later
"""The event channels of domains, from Xen's memory.

No note says where they are. ``struct domain`` has a pointer to their first bucket, a page of
``struct evtchn`` in Xen's heap, and behind it pointers to groups of further buckets (since Xen
4.4, commit a6b0650b09; xen/include/xen/sched.h). A bucket is known by the ports in it: Xen
writes into each channel its own number when it makes the bucket. The state is before the port,
what the channel is bound to is behind it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SIZE, WORDS_PER_PAGE
from .domains import Domain, Xen

__all__ = ["STATES", "Channel", "find_channels"]

STATES = ("free", "reserved", "unbound", "interdomain", "pirq", "virq", "ipi")  # ECS_*
FREE, RESERVED, UNBOUND, INTERDOMAIN, _, VIRQ, _ = range(len(STATES))
SIZES = (64, 32, 128)  # bytes of struct evtchn
# bytes from the state to the port; builds of Xen for debugging keep the state before as well
STATE_TO_PORT = (4, 8)
MOST_CHANNELS = 1 << 17  # MAX_NR_EVTCHNS, of the FIFO ABI


@dataclass(frozen=True)
class Channel:
    """An event channel of a domain that is in use.

    ``remote`` is the id of the domain at its other end, or of the one that may bind it; None
    where there is no such domain. ``remote_port`` is the port there. ``virq`` is the number of
    the virtual interrupt.
    """

    port: int
    state: str
    remote: int | None = None
    remote_port: int | None = None
    virq: int | None = None


class Layout(NamedTuple):
    """Where a channel has what; in bytes."""

    size: int
    port_at: int
    state_at: int

    @property
    def per_bucket(self) -> int:
        return PAGE_SIZE // self.size

    @property
    def bound_at(self) -> int:  # a union with a pointer in it
        return -(-(self.port_at + 4) // 8) * 8


def find_channels(
    xen: Xen, domains: Sequence[Domain], notes: list[str]
) -> dict[int, list[Channel]]:
    """Return the channels of each domain that are in use, by the domain's id.

    A domain whose channels are damaged is left out, and a note says why.

    :param domains: those of the host, dom0 first.
    :raises P2mError: it is not clear where they are.
    """
    words: dict[int, array[int]] = {}
    for domain in domains:
        try:
            data = xen.tables.read(domain.vaddr, xen.domain_size & ~7, "struct domain")
            words[domain.id] = array("Q", data)
        except ReadError as error:
            notes.append(f"event channels of domain {domain.id}: {error}")
    places = _fitting(xen, [*words.values()])
    if len(places) != 1:
        raise P2mError("it is not clear where this Xen keeps event channels")
    ((at, layout),) = places
    ids = {domain.vaddr: domain.id for domain in domains}
    found = {}
    for number, each in words.items():
        try:
            found[number] = [*_channels(xen, each[at:], layout, ids)]
        except P2mError as error:
            notes.append(f"event channels of domain {number}: {error}")
    return found


def _fitting(xen: Xen, words: Sequence[Sequence[int]]) -> list[tuple[int, Layout]]:
    """Return the places of a ``struct domain`` that lead to the first bucket in most domains.

    One that is about to go may have none; dom0 has one.

    :param words: those of each domain, dom0's first.
    """
    places = [*_places(xen, words[0])] if words else []
    fitting = [
        sum(_layout(_heap_page(xen, each[at]) or b"") == layout for each in words)
        for at, layout in places
    ]
    return [place for place, number in zip(places, fitting) if number == max(fitting)]


def _places(xen: Xen, words: Iterable[int]) -> Iterator[tuple[int, Layout]]:
    """Yield each word of a ``struct domain`` that leads to the first bucket."""
    for at, word in enumerate(words):
        layout = _layout(_heap_page(xen, word) or b"")
        if layout:
            yield at, layout


def _heap_page(xen: Xen, vaddr: int) -> bytes | None:
    """Return the page of Xen's heap at an address, or None if there is none."""
    pdx = xen.frames.pdx(vaddr)
    if vaddr % PAGE_SIZE or not 0 <= pdx < xen.frames.max_page:
        return None
    try:
        if xen.frames.entry(pdx).is_xen_heap:
            return xen.tables.read(vaddr, PAGE_SIZE, "event channels")
    except ReadError:
        pass
    return None


def _layout(data: bytes) -> Layout | None:
    """Return the layout of a page, if it is a domain's first bucket."""
    second = array("I", data[: max(SIZES) * 2])
    for size in SIZES if data else ():
        for port_at in range(STATE_TO_PORT[0], size - 16, 4):
            if second[(size + port_at) // 4] != 1:
                continue
            layout = Layout(size, port_at, 0)
            if _ports(data, layout) != [*range(layout.per_bucket)]:
                continue
            for back in STATE_TO_PORT:
                states = data[max(port_at - back, 0) :: size]
                if port_at >= back and states[0] == RESERVED and max(states) < len(STATES):
                    return layout._replace(state_at=port_at - back)
    return None


def _ports(data: bytes, layout: Layout) -> list[int]:
    return array("I", data)[layout.port_at // 4 :: layout.size // 4].tolist()


def _channels(
    xen: Xen, words: Sequence[int], layout: Layout, ids: dict[int, int]
) -> Iterator[Channel]:
    """Yield the channels of a domain.

    :param words: those of its ``struct domain`` that begin with the pointer to the first bucket.
    :param ids: of the domains, by address.
    :raises P2mError: a bucket is not one.
    """
    for number, bucket in _buckets(xen, words, layout):
        data = _heap_page(xen, bucket)
        first = number * layout.per_bucket
        if not data or _ports(data, layout) != [*range(first, first + layout.per_bucket)]:
            raise _damaged(first)
        for at in range(0, PAGE_SIZE, layout.size):
            state = data[at + layout.state_at]
            if state not in (FREE, RESERVED):
                yield _channel(data[at : at + layout.size], layout, ids)


def _damaged(first: int) -> P2mError:
    return P2mError(f"Xen's event channels from {first} on are damaged, or not in the dump")


def _buckets(xen: Xen, words: Sequence[int], layout: Layout) -> Iterator[tuple[int, int]]:
    """Yield the number and the address of each bucket.

    :raises P2mError: a group of them is damaged.
    """
    yield 0, words[0]
    in_group = layout.per_bucket * WORDS_PER_PAGE
    for group, vaddr in enumerate(words[1 : 1 + -(-MOST_CHANNELS // in_group)]):
        page = _heap_page(xen, vaddr) if vaddr else b""
        if page is None:
            raise _damaged(group * in_group or layout.per_bucket)
        for index, bucket in enumerate(array("Q", page)):
            if bucket and (group or index):  # of the first bucket there may be a second pointer
                yield group * WORDS_PER_PAGE + index, bucket


def _channel(data: bytes, layout: Layout, ids: dict[int, int]) -> Channel:
    """Return the channel with these bytes."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    state, port, bound = data[layout.state_at], number(layout.port_at, 4), layout.bound_at
    name = STATES[state] if state < len(STATES) else f"state {state}"
    if state == UNBOUND:
        return Channel(port, name, remote=number(bound, 2))
    if state == INTERDOMAIN:
        return Channel(port, name, ids.get(number(bound + 8, 8)), number(bound, 4))
    if state == VIRQ:
        return Channel(port, name, virq=number(bound, 2))
    return Channel(port, name)
