# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's crash notes in the dump of a Xen host.

Sources: ``xen/include/public/elfnote.h`` and ``xen/include/xen/elfcore.h``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import P2mError
from ..machine.notes import Note

__all__ = [
    "XEN_ELFNOTE_CRASH_INFO",
    "XEN_ELFNOTE_CRASH_REGS",
    "XEN_NOTE_OWNER",
    "CrashNote",
    "is_crash_note",
    "read_crash_note",
]

XEN_NOTE_OWNER = "Xen"
XEN_ELFNOTE_CRASH_INFO = 0x1000001  # crash_xen_info_t
XEN_ELFNOTE_CRASH_REGS = 0x1000002  # crash_xen_core_t: cr0, cr2, cr3, cr4

MOST_CPUS = 8192  # of a machine: Linux's largest NR_CPUS; Xen's is smaller


@dataclass(frozen=True)
class CrashNote:
    """The contents of Xen's crash notes.

    ``version`` is Xen's. ``frame_list_mfn`` is the mfn of dom0's
    ``pfn_to_mfn_frame_list_list``. ``cr3s`` has one machine address for each cpu, in cpu
    order. ``xen_phys_start`` is the machine address that Xen was loaded at.
    """

    version: str
    frame_list_mfn: int
    cr3s: tuple[int, ...]
    xen_phys_start: int


def is_crash_note(note: Note) -> bool:
    """Return True if it is the note whose last word is the mfn of dom0's frame list."""
    return note.owner == XEN_NOTE_OWNER and note.type == XEN_ELFNOTE_CRASH_INFO


def read_crash_note(notes: Iterable[Note]) -> CrashNote | None:
    """Return the contents of Xen's crash notes, or None if the dump is not of a Xen host.

    :raises P2mError: the XEN_ELFNOTE_CRASH_INFO note is too short, or there are too many notes.
    """
    info: bytes | None = None
    cr3s = []
    for note in notes:
        if is_crash_note(note):
            info = note.data
        elif (
            note.owner == XEN_NOTE_OWNER
            and note.type == XEN_ELFNOTE_CRASH_REGS
            and len(note.data) >= 32
        ):
            cr3s.append(int.from_bytes(note.data[16:24], "little"))
    if info is None:
        return None
    if len(cr3s) > MOST_CPUS:
        raise P2mError(f"the dump has XEN_ELFNOTE_CRASH_REGS notes of over {MOST_CPUS:,} cpus")
    count = len(info) // 8
    if count < 3:
        raise P2mError(f"the XEN_ELFNOTE_CRASH_INFO note has {len(info)} bytes, but needs 24")
    major, minor, xen_phys_start, frame_list_mfn = (
        int.from_bytes(info[i * 8 : i * 8 + 8], "little") for i in (0, 1, count - 2, count - 1)
    )
    return CrashNote(f"{major}.{minor}", frame_list_mfn, tuple(cr3s), xen_phys_start)
