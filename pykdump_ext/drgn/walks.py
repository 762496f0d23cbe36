# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks through a kernel's lists and trees that end on a damaged dump, and keep what is sound.

What cannot be read becomes a sentence among ``notes``, and the walk goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import drgn

from ..errors import P2mError, printable
from ..limits import late, step

__all__ = ["attempt", "each", "string", "text"]

Answer = TypeVar("Answer")

LONGEST = 256  # bytes of a name; the kernel's own names have 64 at most, a path on xenbus 100
SHARE = 15  # of a part's time for one object: 2 s; on the lab's dumps each takes a few ms


def text(data: bytes) -> str:
    """Return bytes of a kernel as text that a terminal can show."""
    return printable(data.decode(errors="replace"))


def string(found: drgn.Object) -> str:
    """Return the text of a ``char`` array or behind a ``char *``; NULL has none.

    :raises drgn.FaultError: it cannot be read.
    """
    if found.type_.kind == drgn.TypeKind.ARRAY:  # its size is known
        return text(found.string_()[:LONGEST])
    address = found.value_()
    return text(found.prog_.read_c_string(address, max_size=LONGEST)) if address else ""


def attempt(what: str, notes: list[str], find: Callable[..., Answer], *args: Any) -> Answer | None:
    """Return the result of ``find(*args)``, or None where it fails or takes too long.

    :param what: names what is looked at, in the note that says why.
    """
    try:
        return step(lambda: find(*args), SHARE)
    except P2mError as error:
        notes.append(f"{what}: {error}")
    except Exception as error:  # of drgn, on a damaged object or a kernel that it does not know
        notes.append(f"{what}: {type(error).__name__}: {error}")
    return None


def each(
    what: str, notes: list[str], most: int, find: Callable[..., Iterable[drgn.Object]], *args: Any
) -> Iterator[drgn.Object]:
    """Yield the pointers that ``find(*args)`` has; end where it fails, or comes to one again.

    It also ends when over half of the time is spent: what is found is to be shown.

    :param what: names what is walked through.
    :param most: how many there can be in a sound kernel.
    """
    seen: set[int] = set()
    try:
        for found in find(*args):
            address = found.value_()
            if address in seen:
                notes.append(f"{what}: the list is damaged: it comes back to {address:x}")
                return
            if len(seen) == most:
                notes.append(f"{what}: the list has over {most:,}, the others are left out")
                return
            if late():
                notes.append(f"{what}: the time is up, and only the first {len(seen):,} were seen")
                return
            seen.add(address)
            yield found
    except Exception as error:
        notes.append(f"{what}: not all were found: {type(error).__name__}: {error}")
