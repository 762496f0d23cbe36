# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of an ELF dump: one more PT_LOAD segment has the pages of the list."""

from __future__ import annotations

import struct

from ..errors import P2mError
from ..machine.elf import EHDR, PHDR, PN_XNUM, PT_LOAD, SH_INFO, ElfCore, Segment
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from ..p2m.diagnosis import Diagnosis
from ..p2m.listpages import ListPages, list_pages, pages_needed
from ..xen.frame_table import FrameTable
from ..xen.notes import is_crash_note
from .plan import Rewrite, find_frames

__all__ = ["plan_elf"]


def plan_elf(
    core: ElfCore, found: Diagnosis, frames: FrameTable | None
) -> tuple[Rewrite, ListPages, bool]:
    """Plan a copy; return its differences, its list, and whether Xen tracks the frames as free.

    :raises P2mError: the file cannot have one more program header.
    """
    header, segments = list(core.header), core.headers
    size = core.file.size
    extended = header[10] == PN_XNUM  # e_phnum
    sections = header[6] if header[12] or extended else 0  # e_shoff, if there are e_shnum
    if not extended and len(segments) + 1 >= PN_XNUM:
        raise P2mError(
            f"{core.file.path}: has {len(segments)} program headers, the most an ELF file can have"
        )

    used = sorted((s.paddr, s.paddr + s.memsz) for s in segments if s.type == PT_LOAD)
    count = pages_needed(len(found.rebuilt.leaves))
    mfn, unused = find_frames(used, count, frames)
    pages = list_pages(found.rebuilt, found.table.missing_mfn, mfn)

    contents = [s.offset for s in segments if s.filesz] + ([sections] if sections else [])
    body = min(contents)
    room = EHDR.size + PHDR.size * (len(segments) + 1)
    shift = -(-max(0, room - body) // PAGE_SIZE) * PAGE_SIZE
    end = -(-(size + shift) // PAGE_SIZE) * PAGE_SIZE

    moved = [_moved(segment, size, shift) for segment in segments]
    new = Segment(PT_LOAD, 7, end, 0, mfn << PAGE_SHIFT, len(pages.data), len(pages.data), 0)
    above = (n for n, s in enumerate(moved) if s.type == PT_LOAD and s.paddr > new.paddr)
    moved.insert(next(above, len(moved)), new)
    header[5] = EHDR.size  # e_phoff
    header[6] = sections + shift if sections else 0  # e_shoff
    header[10] = PN_XNUM if extended else len(moved)  # e_phnum
    try:
        head = EHDR.pack(*header) + b"".join(PHDR.pack(*segment) for segment in moved)
    except struct.error:  # an offset or an address of more than 64 bits
        raise P2mError(
            f"{core.file.path}: its headers are damaged, so that a copy cannot have them:"
            " open the dump with p2mfix VMLINUX VMCORE, which writes nothing"
        ) from None

    patches = [(end, pages.data)]
    if extended:
        patches.append((sections + shift + SH_INFO, struct.pack("<I", len(moved))))
    for note in core.notes:
        if is_crash_note(note):
            last = note.offset + shift + len(note.data) // 8 * 8 - 8
            patches.append((last, struct.pack("<Q", pages.top)))
    copy = Rewrite(end + len(pages.data), head, body, shift, tuple(patches))
    return copy, pages, unused


def _moved(segment: Segment, size: int, shift: int) -> Segment:
    """Return the program header of a segment that is ``shift`` bytes later in the copy.

    The segment loses what the file lacks of it, where the file is cut off: other bytes are
    there in the copy.

    :param size: of the file, in bytes.
    """
    there = min(segment.filesz, max(0, size - segment.offset))
    if there < segment.filesz:
        segment = segment._replace(filesz=there, memsz=there)
    return segment._replace(offset=segment.offset + shift if segment.offset else 0)
