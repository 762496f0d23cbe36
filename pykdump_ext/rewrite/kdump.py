# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a kdump-compressed dump: it has more pages, those of the list, which are not packed.

A page of the dump is known by its number among all pages (``machine/kdump.py``), so a new one needs
a bit in each bitmap and a descriptor among the others; the rest of the file comes that much later.
"""

from __future__ import annotations

import re
import struct

from ..errors import P2mError
from ..machine.kdump import DESCRIPTOR, KdumpFile, Places
from ..machine.memory import PAGE_SIZE
from ..machine.vectors import np
from ..p2m.diagnosis import Diagnosis
from ..p2m.listpages import ListPages, list_pages, pages_needed
from ..xen.frame_table import FrameTable
from ..xen.notes import is_crash_note
from .plan import FIRST_MIB, Rewrite

__all__ = ["plan_kdump"]

# Offsets of offset_vmcoreinfo, offset_note and offset_eraseinfo in struct kdump_sub_header
# (makedumpfile's diskdump_mod.h)
PLACES_AT = (32, 48, 64)
WORDS = DESCRIPTOR.size // 8
FRAMES_PER_BYTE = 8
LARGEST_BITMAP = 512 << 20  # bytes, for 16 TiB of machine memory


def plan_kdump(
    dump: KdumpFile, found: Diagnosis, frames: FrameTable | None
) -> tuple[Rewrite, ListPages, bool]:
    """Plan a copy; return its differences, its list, and whether Xen tracks the frames as free.

    :raises P2mError: the dump is in several files, or there are no frames for the list.
    """
    places = dump.places()
    if places.size > LARGEST_BITMAP:
        raise P2mError(f"{dump.file.path}: {places.frames:x} frames: its header is damaged")
    existing = dump.file.read_at(places.existing, places.size)
    dumped = dump.file.read_at(places.dumped, places.size)
    count = pages_needed(len(found.rebuilt.leaves))
    mfn, unused = _free_frames(existing, dumped, places.frames, count, frames)
    if mfn is None:
        raise P2mError(
            f"{dump.file.path}: has no {count} machine frames in a row without a page, so that a"
            " copy cannot have a list: open the dump with p2mfix VMLINUX VMCORE"
        )
    pages = list_pages(found.rebuilt, found.table.missing_mfn, mfn)

    before, all_pages = places.pages_before(mfn), places.pages
    shift = pages.frames * DESCRIPTOR.size
    size = dump.file.size
    end = size + shift
    descriptors = _moved(dump, places, shift)
    new = b"".join(
        DESCRIPTOR.pack(end + page * PAGE_SIZE, PAGE_SIZE, 0) for page in range(pages.frames)
    )
    at = before * DESCRIPTOR.size
    head = bytearray(dump.file.read_at(0, places.descriptors))
    for start, bits in {places.existing: existing, places.dumped: dumped}.items():
        head[start : start + places.size] = _with_bits(bits, mfn, pages.frames)
    for place in PLACES_AT:
        offset = int.from_bytes(head[PAGE_SIZE + place : PAGE_SIZE + place + 8], "little")
        if places.descriptors <= offset <= size:  # a damaged one stays
            struct.pack_into("<Q", head, PAGE_SIZE + place, offset + shift)
    head += descriptors[:at] + new + descriptors[at:]

    patches = [(end, pages.data)]
    for note in dump.notes:
        if is_crash_note(note):
            last = note.offset + len(note.data) // 8 * 8 - 8
            last += shift if last >= places.descriptors else 0
            patches.append((last, struct.pack("<Q", pages.top)))
    body = places.descriptors + all_pages * DESCRIPTOR.size
    inside = [patch for patch in patches if patch[0] < len(head)]
    for offset, data in inside:
        head[offset : offset + len(data)] = data
    outside = tuple(patch for patch in patches if patch[0] >= len(head))
    return Rewrite(end + len(pages.data), bytes(head), body, shift, outside), pages, unused


def _free_frames(
    existing: bytes, dumped: bytes, end: int, count: int, frames: FrameTable | None
) -> tuple[int | None, bool]:
    """Find ``count`` frames in a row that no bitmap has, such as the crash kernel's memory.

    Return the mfn of the first, or None where there are none, and True where Xen tracks them as
    free memory: filters such as ``makedumpfile -X`` keep those.

    :param end: the number of frames that the bitmaps have.
    """
    either = (np.frombuffer(existing, np.uint8) | np.frombuffer(dumped, np.uint8)).tobytes()
    found = None
    for gap in re.finditer(rb"\0{%d,}" % -(-count // FRAMES_PER_BYTE), either):
        first = max(gap.start() * FRAMES_PER_BYTE, FIRST_MIB // PAGE_SIZE)
        last = min(gap.end() * FRAMES_PER_BYTE, end) - count
        for mfn in (first, last) if first <= last else ():
            if frames is not None and frames.unused(mfn, count):
                return mfn, True
            found = mfn if found is None else found
    return found, False


def _with_bits(bits: bytes, first: int, count: int) -> bytes:
    """Return a bitmap with the bits of ``count`` frames set."""
    start, end = first // FRAMES_PER_BYTE, -(-(first + count) // FRAMES_PER_BYTE)
    part = int.from_bytes(bits[start:end], "little")
    part |= (1 << count) - 1 << first - start * FRAMES_PER_BYTE
    return bits[:start] + part.to_bytes(end - start, "little") + bits[end:]


def _moved(dump: KdumpFile, places: Places, shift: int) -> bytes:
    """Return the descriptors of all pages, for pages that come ``shift`` bytes later."""
    content = dump.file.read_at(places.descriptors, places.pages * DESCRIPTOR.size)
    if len(content) < places.pages * DESCRIPTOR.size:
        raise P2mError(f"{dump.file.path}: ends inside its descriptors of pages")
    words = np.frombuffer(content, np.uint64).reshape(-1, WORDS).copy()
    there = words[:, 0] != 0  # a page that makedumpfile did not write has no place
    words[there, 0] += np.uint64(shift)
    return words.tobytes()
