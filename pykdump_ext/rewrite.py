# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a dump with the rebuilt list in it, for plain crash and other tools.

The copy of a dump whose list is whole has the same bytes.  Another one equals
the dump byte for byte, with three exceptions: one more PT_LOAD segment with the pages of the list,
that segment's program header, and the last word of the XEN_ELFNOTE_CRASH_INFO note, which is the
list's mfn.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import P2mError
from .machine.elf import EHDR, PHDR, PN_XNUM, PT_LOAD, SH_INFO, ElfCore, Segment
from .machine.memory import PAGE_SHIFT, PAGE_SIZE
from .outputs import check_space, new_file, write_at
from .p2m.diagnosis import Diagnosis
from .p2m.framelist import read_list
from .p2m.listpages import ListPages, list_pages, pages_needed
from .xen.frame_table import FrameTable
from .xen.notes import is_crash_note, read_crash_note

__all__ = ["copy_dump", "rewrite_dump"]

FIRST_MIB = 1 << 20  # of machine memory: firmware uses it, and an mfn of 0 means no list

FICLONE = 0x40049409  # the ioctl of include/uapi/linux/fs.h
CHUNK = 64 << 20  # bytes, copied between two reports of progress
Watch = Callable[[int, int], None]


def unwatched(done: int, size: int) -> None:
    """Show no progress."""


# --------------------------------------------------------------------------
# Frames to put the list in


def find_frames(
    used: Sequence[tuple[int, int]], count: int, frames: FrameTable | None
) -> tuple[int, bool]:
    """Find ``count`` frames in a row that the dump does not use.

    Return the mfn of the first, and True where the frames are in a gap of the dump that Xen
    tracks as free memory: filters such as ``makedumpfile -X`` keep those.  Otherwise the frames
    are above all memory of the dump, and the second value is False.

    :param used: the (start, end) machine addresses of the dump's memory, in order.
    :param frames: Xen's frame table, or None where it is not known.
    """
    end = FIRST_MIB
    for start, stop in used:
        first, last = -(-end // PAGE_SIZE), start // PAGE_SIZE
        if last - first >= count:
            for mfn in (first, last - count):
                if frames is not None and frames.unused(mfn, count):
                    return mfn, True
        end = max(end, stop)
    return -(-end // PAGE_SIZE), False


# --------------------------------------------------------------------------
# The file


@dataclass(frozen=True)
class Rewrite:
    """The differences between a copy and its source.

    The copy has ``size`` bytes and begins with ``head``.  The bytes of the source from offset
    ``body`` on follow, ``shift`` bytes later than in the source.  ``patches`` then go over
    that: each is an offset in the copy, and bytes.
    """

    size: int
    head: bytes
    body: int
    shift: int
    patches: tuple[tuple[int, bytes], ...]


def plan(
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


def _data(fd: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) offsets of a file's data, without its holes, from ``start`` on."""
    while start < size:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end
        start = end


def _cloned(source: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError:  # the file system cannot share blocks, or not these; errno varies
        return False
    return True


def write(
    rewrite: Rewrite,
    source: Path,
    target: Path,
    check: Callable[[Path], None],
    watch: Watch = unwatched,
    replace: bool = False,
) -> bool:
    """Write the copy; return True when it shares its blocks with the source.

    The copy has no name of its own until it is whole, and its ELF header is written last: what
    an exception or a ``kill -9`` leaves is no file, or one that nobody takes for a dump.

    :param check: gets the path of the copy before the copy gets its name, and raises an
        exception if the copy is wrong.
    :param watch: gets the number of bytes that are copied, and of all bytes.
    :param replace: a file at ``target`` may be replaced.
    :raises P2mError: ``target`` must not be written, the file system has no room, or ``check``
        raises it.
    :raises OSError: reading or writing fails.
    """
    with source.open("rb", buffering=0) as old:
        mode = os.fstat(old.fileno()).st_mode & 0o777
        with new_file(target, mode, [source], replace) as (fd, unfinished):
            cloned = not rewrite.shift and _cloned(old.fileno(), fd)
            if cloned:
                os.pwrite(fd, bytes(len(rewrite.head)), 0)
            else:
                more = len(rewrite.head) + sum(len(data) for _, data in rewrite.patches)
                check_space(old.fileno(), target.parent, more)
            os.ftruncate(fd, rewrite.size)
            if not cloned:
                _copy(old.fileno(), fd, rewrite, watch)
            for offset, data in (*rewrite.patches, (0, rewrite.head)):
                write_at(fd, data, offset)
            check(unfinished)
    return cloned


def _copy(old: int, new: int, rewrite: Rewrite, watch: Watch) -> None:
    """Copy the source from ``rewrite.body`` on, and leave its holes out.

    :raises P2mError: the source becomes shorter meanwhile.
    """
    size = os.fstat(old).st_size
    for start, end in _data(old, rewrite.body, size):
        os.lseek(new, start + rewrite.shift, os.SEEK_SET)
        at = start
        while at < end:
            watch(at, size)
            copied = os.sendfile(new, old, at, min(CHUNK, end - at))
            if not copied:
                raise P2mError(
                    "the dump became shorter while it was copied: copy it when nothing writes it"
                )
            at += copied
    watch(size, size)


def rewrite_dump(
    core: ElfCore,
    found: Diagnosis,
    target: Path,
    watch: Watch = unwatched,
    frames: FrameTable | None = None,
    replace: bool = False,
) -> tuple[ListPages, bool, bool]:
    """Write a copy of a dump with the rebuilt list in it.

    Return the pages of the list, whether Xen tracks their frames as free, and whether the copy
    shares its blocks with the dump.

    :param watch: gets the number of bytes that are copied, and of all bytes.
    :param frames: Xen's frame table, which says which frames are free, or None.
    :param replace: a file at ``target`` may be replaced.
    :raises P2mError: ``target`` must not be written, there is no room in the file's header or on
        the disk, or the list does not read back from the copy.
    :raises OSError: reading or writing fails.
    """
    copy, pages, unused = plan(core, found, frames)

    def check(path: Path) -> None:
        """Read the list back as other tools do."""
        written = ElfCore(path)
        note = read_crash_note(written.notes)
        listed = read_list(written, note.frame_list_mfn if note else 0)
        if listed.problems or listed.leaves != pages.leaves:
            raise P2mError(
                f"{target}: the list does not read back from the copy, so the copy is deleted"
            )

    cloned = write(copy, core.file.path, target, check, watch, replace)
    return pages, unused, cloned


def copy_dump(source: Path, target: Path, watch: Watch = unwatched, replace: bool = False) -> bool:
    """Write a copy of a dump as it is; return True when the copy shares its blocks with it.

    The parameters and the errors are those of :func:`rewrite_dump`.
    """
    with source.open("rb") as file:
        head = file.read(PAGE_SIZE)
    same = Rewrite(source.stat().st_size, head, len(head), 0, ())
    return write(same, source, target, lambda path: None, watch, replace)
