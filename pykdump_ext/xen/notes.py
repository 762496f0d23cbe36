"""Xen's crash notes in the dump of a host.

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


@dataclass(frozen=True)
class CrashNote:
    """What Xen's crash notes say about dom0 and about Xen itself.

    ``frame_list_mfn`` is the mfn of dom0's ``pfn_to_mfn_frame_list_list``; ``cr3s``
    has one machine address for each physical cpu, in cpu order; ``xen_phys_start``
    is the machine address that Xen was loaded at, in bytes.
    """

    version: str
    frame_list_mfn: int
    cr3s: tuple[int, ...]
    xen_phys_start: int


def is_crash_note(note: Note) -> bool:
    """Return True for the note whose last word is the mfn of dom0's list."""
    return note.owner == XEN_NOTE_OWNER and note.type == XEN_ELFNOTE_CRASH_INFO


def read_crash_note(notes: Iterable[Note]) -> CrashNote | None:
    """Return what the notes of a dump say about Xen, or None: not a dump of a Xen host.

    :raises P2mError: the note is there, but too short.
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
    words = [int.from_bytes(info[i : i + 8], "little") for i in range(0, len(info) & ~7, 8)]
    if len(words) < 3:
        raise P2mError(f"the XEN_ELFNOTE_CRASH_INFO note has {len(info)} bytes, which is too short")
    *_, xen_phys_start, frame_list_mfn = words
    return CrashNote(f"{words[0]}.{words[1]}", frame_list_mfn, tuple(cr3s), xen_phys_start)
