# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's console: the lines that are left in its ring, in the order in which they were printed.

    xen = open_xen(core, core.notes)
    console = read_console(xen)
    print(*console.lines, console.found, sep="\\n")

Xen's symbols lead to the ring. Without them, its text does: Xen's variable ``conring`` points
to pages of Xen's heap, and no other variable of Xen points to such text. ``conring_size``
is close to it: both are static variables of xen/drivers/char/console.c. In Xen 4.0 and 4.1 on a
machine of few cpus the ring is in Xen's image, and only symbols lead to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import P2mError, ReadError, printable
from ..machine.memory import PAGE_SIZE
from ..machine.vectors import np
from .domains import Xen
from .image import image_parts
from .ring import BEGINNING, End, find_end
from .symbols import XenSymbols

__all__ = ["Console", "read_console"]

SMALLEST_RING, LARGEST_RING = PAGE_SIZE, 64 << 20  # bytes; 16 KiB and more by default
NEAR = 16  # words of 32 bits from conring to conring_size; two in Xen 4.17 and 4.20
MOST_POINTERS = 1 << 12  # from Xen's variables to its heap; Xen 4.17 has 32 that are page aligned
MOST_LINES = 1 << 18  # a ring of 16 MiB with lines of 64 characters
LOOKED_AT = 16 << 10  # bytes of what may be the ring: many lines begin in them
MISSING = b"\xff"  # for each byte that is not in the dump; Xen prints ASCII
WHAT = "Xen's console ring"


@dataclass(frozen=True)
class Console:
    """What is left of Xen's console.

    ``lines`` are text that a terminal can show. If ``wrapped``, earlier lines were overwritten,
    and the first one may lack its beginning. ``found`` is a sentence: where the ring is and how
    that was found.
    """

    lines: tuple[str, ...]
    vaddr: int
    size: int
    wrapped: bool
    found: str


def read_console(xen: Xen, symbols: XenSymbols | None = None) -> Console:
    """Return the lines in Xen's console ring.

    :param symbols: Xen's symbols, if they are known.
    :raises P2mError: the ring cannot be found.
    """
    if symbols:
        vaddr, size = _named(xen, symbols)
        ring, lacking = _read(xen, vaddr, size)
        end = _named_end(xen, symbols, size)
    else:
        variables = [data for _, data in image_parts(xen)]
        vaddr, size = _sought(xen, variables)
        ring, lacking = _read(xen, vaddr, size)
        end = find_end(ring, variables)
    text = ring[end.at :] + ring[: end.at] if end.wrapped else ring[: end.at]
    found = [
        f"Xen's console ring of {size >> 10:,} KiB at {vaddr:x} was found by"
        f" {'its symbols' if symbols else 'its text'}, its end {end.found}"
    ]
    if end.wrapped:
        found.append("older lines were overwritten")
    if lacking:
        found.append(f"{lacking:,} of its {size // PAGE_SIZE:,} pages are not in the dump")
    return Console(tuple(_lines(text)), vaddr, size, end.wrapped, "; ".join(found))


def _lines(text: bytes) -> Iterator[str]:
    """Yield each line as text that a terminal can show."""
    lines = text.rsplit(b"\n", MOST_LINES)
    if len(lines) > MOST_LINES:
        lines[0] = f"[{len(lines[0]):,} bytes before these lines are left out]".encode()
    if lines[-1] == b"":
        lines.pop()
    for line in lines:
        lacking = line.count(MISSING)
        shown = line.replace(MISSING, b"").rstrip(b"\r").decode("utf-8", "backslashreplace")
        shown = "\t".join(printable(part) for part in shown.split("\t"))
        yield f"{shown}[{lacking:,} bytes are not in the dump]" if lacking else shown


def _read(xen: Xen, vaddr: int, size: int) -> tuple[bytes, int]:
    """Return the ring, and how many of its pages are not in the dump.

    :raises P2mError: none is.
    """
    pages, lacking = [], 0
    for at in range(vaddr, vaddr + size, PAGE_SIZE):
        try:
            pages.append(xen.tables.read(at, PAGE_SIZE, WHAT))
        except ReadError:
            pages.append(MISSING * PAGE_SIZE)
            lacking += 1
    if lacking == len(pages):
        raise P2mError(f"Xen's console ring is at {vaddr:x}, but its memory is not in the dump")
    return b"".join(pages), lacking


def _named(xen: Xen, symbols: XenSymbols) -> tuple[int, int]:
    """Return the address and the size of the ring that Xen's symbols lead to."""
    vaddr = xen.tables.word(symbols.address("conring"), "conring")
    size = _number(xen, symbols, "conring_size")
    if not _is_size(size) or vaddr % 8:
        raise P2mError(f"Xen's memory is damaged: its console ring has {size:,} bytes at {vaddr:x}")
    return vaddr, size


def _named_end(xen: Xen, symbols: XenSymbols, size: int) -> End:
    """Return where the ring ends, by Xen's symbols."""
    produced = _number(xen, symbols, "conringp")
    consumed = _number(xen, symbols, "conringc")
    over = produced < size and (produced - consumed) % (1 << 32) == size  # of 32 bits
    wrapped = produced > size or over
    return End(produced % size if wrapped else produced, wrapped, produced, "by conringp")


def _number(xen: Xen, symbols: XenSymbols, name: str) -> int:
    return int.from_bytes(xen.tables.read(symbols.address(name), 4, name), "little")


def _is_size(number: int) -> bool:
    return SMALLEST_RING <= number <= LARGEST_RING and number & (number - 1) == 0


def _sought(xen: Xen, variables: Sequence[bytes]) -> tuple[int, int]:
    """Return the address and the size of the ring that is found by its text.

    :raises P2mError: no variable of Xen leads to such text.
    """
    best = 0, 0, 0  # lines, address, size
    seen: set[int] = set()
    for vaddr, size in _pointers(xen, variables):
        if vaddr in seen or not xen.frames.is_heap(vaddr):
            continue
        seen.add(vaddr)
        if len(seen) > MOST_POINTERS:
            break
        best = max(best, (_lines_at(xen, vaddr, size), vaddr, size))
    count, vaddr, size = best
    if not count:
        why = (
            "none of Xen's variables leads to it" if variables else "Xen's image is not in the dump"
        )
        raise P2mError(f"Xen's console ring was not found: {why}; give Xen's xen-syms if you can")
    return vaddr, size


def _lines_at(xen: Xen, vaddr: int, size: int) -> int:
    """Return how many lines begin in the first pages of what may be the ring."""
    count = 0
    for at in range(vaddr, vaddr + min(size, LOOKED_AT), PAGE_SIZE):
        with suppress(ReadError):
            count += len(BEGINNING.findall(xen.tables.read(at, PAGE_SIZE, WHAT)))
    return count


def _pointers(xen: Xen, variables: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield each page that a variable of Xen points to in Xen's direct map.

    With each comes the size of a ring that is next to the pointer; those without are left out.
    """
    frames = xen.frames
    start, end = frames.direct_map, frames.direct_map + frames.max_page * PAGE_SIZE
    for data in variables:
        words = np.frombuffer(data[: len(data) & ~7], np.uint64)
        page = words & np.uint64(PAGE_SIZE - 1) == 0
        near = np.frombuffer(data, np.uint32)
        for at in np.flatnonzero(page & (words >= start) & (words < end)).tolist():
            around = near[max(at * 2 - NEAR, 0) : at * 2 + NEAR + 2].tolist()
            middle = min(at * 2, NEAR)
            sizes = [(abs(i - middle), word) for i, word in enumerate(around) if _is_size(word)]
            if sizes:
                yield int(words[at]), min(sizes)[1]
