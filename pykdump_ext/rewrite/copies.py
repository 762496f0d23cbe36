# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a dump with the rebuilt list in it, for plain crash and other tools.

The copy of a dump whose list is whole has the same bytes.  Another one has what the dump has, the
pages of the list, what the format needs to find these, and in the last word of its
XEN_ELFNOTE_CRASH_INFO note the list's mfn.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import P2mError
from ..machine.dumps import open_dump
from ..machine.elf import ElfCore
from ..machine.kdump import KdumpFile
from ..machine.memory import PAGE_SIZE
from ..outputs import check_space, new_file, write_at
from ..p2m.diagnosis import Diagnosis
from ..p2m.framelist import read_list
from ..p2m.listpages import ListPages
from ..xen.frame_table import FrameTable
from ..xen.notes import read_crash_note
from .elf import plan_elf
from .plan import Rewrite

__all__ = ["copy_dump", "rewrite_dump"]

FICLONE = 0x40049409  # the ioctl of include/uapi/linux/fs.h
CHUNK = 64 << 20  # bytes, copied between two reports of progress
Watch = Callable[[int, int], None]


def unwatched(done: int, size: int) -> None:
    """Show no progress."""


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
    core: ElfCore | KdumpFile,
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
    if isinstance(core, KdumpFile):
        from .kdump import plan_kdump  # noqa: PLC0415  (numpy takes 0.1 s)

        copy, pages, unused = plan_kdump(core, found, frames)
    else:
        copy, pages, unused = plan_elf(core, found, frames)

    def check(path: Path) -> None:
        """Read the list back as other tools do."""
        written = open_dump([path])
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
