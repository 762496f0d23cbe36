# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's version in full: what Xen's crash notes, its image and its console have of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import P2mError, ReadError, printable
from ..machine.memory import PAGE_SIZE, MachineMemory
from ..machine.notes import Note
from .domains import Xen
from .image import image_parts
from .notes import is_crash_note

__all__ = ["XenVersion", "read_version"]

# crash_xen_info_t (xen/include/xen/elfcore.h): words, of which five are machine addresses of text
EXTRA, CHANGESET, COMPILER, DATE, TIME, TAINTED = range(2, 8)
LONGEST = 512  # bytes of such a text
# xen/include/xen/lib.h; in 4.0 bits 0, 2, 3 and 4 have other meanings
TAINTS_SINCE = 4, 8
TAINTS = (
    "synchronous console", "machine check", "error injected", "forced emulation",
    "insecure machine", "cpu out of specification",
)  # fmt: skip
# An ELF note of type NT_GNU_BUILD_ID, with 20 bytes: in Xen's image since 4.7
BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0(.{20})", re.DOTALL)
BANNER = re.compile(r"\(XEN\) (?:\[[^\]]*\] )?(Xen version .*)")  # console_init_preirq()


@dataclass(frozen=True)
class XenVersion:
    """Xen's version and build; what the dump does not have is None.

    ``version`` has the extra version in it, such as ``4.17.7``. ``banner`` is the line that
    Xen's console begins with, as long as it is not overwritten; it has who built Xen as well.
    ``taints`` are words for what Xen noted that makes it less trustworthy.
    """

    version: str
    changeset: str | None
    compiler: str | None
    built: str | None
    banner: str | None
    build_id: str | None
    taints: tuple[str, ...] | None


def read_version(
    memory: MachineMemory, notes: Iterable[Note], xen: Xen | None, console: Sequence[str] = ()
) -> XenVersion:
    """Return what a dump has of Xen's version.

    :param xen: Xen's memory, or None if it is not in the dump: then there is no build ID.
    :param console: the lines of Xen's console, as far as they are known.
    :raises P2mError: the dump has no XEN_ELFNOTE_CRASH_INFO note.
    """
    data = next((note.data for note in notes if is_crash_note(note)), b"")
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8)]
    if len(words) <= TAINTED:
        raise P2mError("the dump has no whole XEN_ELFNOTE_CRASH_INFO note, so Xen is not known")

    def text(index: int) -> str | None:
        return _text(memory, words[index])

    date, time = text(DATE), text(TIME)  # since 4.4 the date has the time in it
    built = date if not time or time in (date or "") else f"{date or ''} {time}".strip()
    banner = next((found[1] for line in console if (found := BANNER.match(line))), None)
    taints = [name for bit, name in enumerate(TAINTS) if words[TAINTED] >> bit & 1]
    return XenVersion(
        f"{words[0]}.{words[1]}{text(EXTRA) or ''}",
        text(CHANGESET),
        text(COMPILER),
        built,
        banner,
        _build_id(xen) if xen else None,
        tuple(taints) if (words[0], words[1]) >= TAINTS_SINCE else None,
    )


def _text(memory: MachineMemory, maddr: int) -> str | None:
    """Return the text at a machine address, or None if there is none."""
    found = b""
    while len(found) < LONGEST and b"\0" not in found:
        size = PAGE_SIZE - (maddr + len(found)) % PAGE_SIZE
        try:
            found += memory.read(maddr + len(found), min(size, LONGEST), "Xen's version")
        except ReadError:
            return None
    text = found.split(b"\0")[0][:LONGEST]
    return printable(text.decode("utf-8", "backslashreplace")) or None


def _build_id(xen: Xen) -> str | None:
    """Return the build ID in Xen's image as hexadecimal digits, or None if it is not clear."""
    found = {m[1] for _, data in image_parts(xen, writable=False) for m in BUILD_ID.finditer(data)}
    return found.pop().hex() if len(found) == 1 else None
