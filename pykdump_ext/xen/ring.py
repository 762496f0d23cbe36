# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Xen's console ring ends: by Xen's variables, else by the ring's own text.

Xen writes each byte at ``conringp++`` modulo the ring's size; ``conringc`` is the first byte
that a reader has not cleared, and at most a ring's size behind
(``conring_puts()``, xen/drivers/char/console.c, the same in 4.0 to 4.22).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..machine.vectors import np

__all__ = ["BEGINNING", "End", "find_end"]

PREFIX = rb"\((?:XEN|d\d+(?:v\d+)?)\) "  # of each line, which is Xen's or a guest's
BEGINNING = re.compile(PREFIX)
# An end of a line that is followed by a line without its beginning
BREAK = re.compile(rb"\n(?!%s)(?=[\t\r -~]*\n)" % PREFIX)
NEWLINE = 10


@dataclass(frozen=True)
class End:
    """Where the next byte would be written, as a position in the ring, and how that was found.

    ``wrapped``: the bytes from there on are the oldest; otherwise nothing was written there.
    ``written`` is the number of bytes ever written, modulo 2**32, or None if it is not known.
    ``found`` completes the sentence "its end was found ...".
    """

    at: int
    wrapped: bool
    written: int | None
    found: str


def find_end(ring: bytes, variables: Iterable[bytes]) -> End:
    """Return where a ring ends.

    Both counters are static variables of one file, so the compiler puts them side by side.
    What stands side by side by chance does not lead to the end of a line.

    :param ring: the whole ring, a power of two in bytes.
    :param variables: stretches of Xen's variables.
    """
    size = len(ring)
    used = ring.index(0) if 0 in ring else size  # Xen prints no zero byte
    filling: set[int] = set()  # what conringp may be
    full: set[int] = set()
    for data in variables:
        for produced, is_full in _counters(data, ring, used):
            (full if is_full else filling).add(produced)
    if used < size:
        counted = {used} & filling or filling
        if len(counted) == 1:
            return _filling(counted.pop())
        return End(used, False, used, "by its text, behind which is nothing")
    if len(full) == 1:
        return _full(full.pop(), size)
    # the text goes on where it began again
    doubled = ring + ring[: ring.find(NEWLINE) + 1]
    breaks = {match.end() % size for match in BREAK.finditer(doubled)}
    known = [produced for produced in full if produced % size in breaks]
    if len(known) == 1:
        return _full(known[0], size)
    if len(breaks) == 1:
        return End(breaks.pop(), True, None, "by its text, where a line lacks its beginning")
    filling.discard(size)  # conring_size with a zero beside it
    if len(filling) == 1:  # what was in this memory before is behind it
        return _filling(filling.pop())
    return End(0, True, None, "nowhere, so its lines are in the order of memory")


def _filling(produced: int) -> End:
    return End(produced, False, produced, "by its counters")


def _full(produced: int, size: int) -> End:
    return End(produced % size, True, produced, "by its counters")


def _counters(data: bytes, ring: bytes, used: int) -> Iterator[tuple[int, bool]]:
    """Yield each word that could be ``conringp``, with ``conringc`` before or behind it.

    With it comes True if the ring is full.
    """
    size = len(ring)
    ends = np.frombuffer(ring, np.uint8) == NEWLINE
    last = max((match.start() for match in BEGINNING.finditer(ring, 0, used)), default=0)
    words = np.frombuffer(data[: len(data) & ~3], np.uint32)
    for produced, consumed in ((words[:-1], words[1:]), (words[1:], words[:-1])):
        is_full = produced - consumed == size
        is_filling = (produced > last) & (produced <= used) & (consumed <= produced)
        for at in np.flatnonzero(is_full | is_filling).tolist():
            value = int(produced[at])
            if ends[value % size - 1] or value == used:
                yield value, bool(is_full[at]) and value != size
