"""A copy of a dump with the rebuilt list in it, for tools that know nothing of this package.

The copy is the dump, byte for byte, but for three things: one more PT_LOAD with
the pages of the list, its program header, and the last word of the
XEN_ELFNOTE_CRASH_INFO note, which is the list's mfn.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile

from .domains import XEN_VMCOREINFO
from .errors import P2mError, ReadError
from .kernel import XEN_ELFNOTE_CRASH_INFO, XEN_NOTE_OWNER, xen_info
from .memory import PAGE_SHIFT, PAGE_SIZE, WORDS_PER_PAGE, ElfCore, Note
from .p2m import Diagnosis, FrameList, read_list
from .p2m.entries import INVALID_P2M_ENTRY
from .p2m.layouts import with_replaced
from .paging import NOT_MAPPED

LARGEST_LIST = WORDS_PER_PAGE * WORDS_PER_PAGE  # leaves: 512 GiB of pfns

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
SH_INFO = 44  # bytes into Elf64_Shdr; of the first one, where e_phnum is PN_XNUM
PT_LOAD = 1
PN_XNUM = 0xFFFF
FIRST_MIB = 1 << 20  # of machine memory: the firmware's, and frame 0 means no list

FICLONE = 0x40049409  # include/uapi/linux/fs.h
CHUNK = 64 << 20  # bytes copied between two looks at the progress


# --------------------------------------------------------------------------
# The list


@dataclass(frozen=True)
class ListPages:
    """A list as it stands in machine frames from ``mfn`` on; ``top`` is what the note must say."""

    mfn: int
    top: int
    data: bytes
    leaves: array[int]

    @property
    def frames(self) -> int:
        """How many machine frames it takes."""
        return len(self.data) >> PAGE_SHIFT


def pages_needed(leaves: int) -> int:
    """Return how many pages a list of so many leaves takes at most."""
    return min(-(-leaves // WORDS_PER_PAGE), WORDS_PER_PAGE) + 3


def list_pages(frames: FrameList, missing_mfn: int, mfn: int) -> ListPages:
    """Return the pages of a list that names these leaves, for machine frames from ``mfn`` on.

    What is missing is told as kernels tell it, by naming a leaf full of missing
    entries, also behind the last leaf: crash takes a zero for the list's end,
    and reads every leaf.  That leaf is one of these pages, whatever has become
    of the kernel's own, ``missing_mfn``.  Pages that are the same are one.
    """
    numbers: dict[bytes, int] = {}

    def page(words: Sequence[int]) -> int:
        return mfn + numbers.setdefault(struct.pack("<512Q", *words), len(numbers))

    missing = page([INVALID_P2M_ENTRY] * WORDS_PER_PAGE)
    leaves = frames.leaves[:LARGEST_LIST]
    for nothing in (0, NOT_MAPPED, missing_mfn):
        leaves = with_replaced(leaves, nothing, missing)
    leaves.extend(array("Q", [missing]) * (LARGEST_LIST - len(leaves)))
    starts = range(0, LARGEST_LIST, WORDS_PER_PAGE)
    top = page([page(leaves[start : start + WORDS_PER_PAGE]) for start in starts])
    return ListPages(mfn, top, b"".join(numbers), leaves)


# --------------------------------------------------------------------------
# Frames to put it in


class XenFrames:
    """Xen's own table of what each machine frame is used for, through the kernel's page tables.

    Where the notes tell of no such table, nothing is known to be unused.
    """

    def __init__(self, found: Diagnosis, notes: Sequence[Note]) -> None:
        self._tables = found.kernel.tables
        self._table = self._size = 0
        for note in notes:
            if note.owner == XEN_VMCOREINFO:
                lines = note.data.rstrip(b"\0").decode("latin-1").splitlines()
                says = dict(line.partition("=")[::2] for line in lines)
                try:
                    variable = int(says["SYMBOL(frame_table)"], 16)
                    self._table = int.from_bytes(
                        self._tables.read(variable, 8, "frame_table"), "little"
                    )
                    self._size = int(says["SIZE(page_info)"])
                except (KeyError, ValueError, ReadError):
                    return

    def unused(self, mfn: int, count: int) -> bool:
        """True when Xen knows these frames and has given none of them to anybody.

        So are those of the crash kernel's memory, which no dump holds: their
        ``struct page_info`` (xen/arch/x86/include/asm/mm.h) is zeros.
        """
        if not self._size:
            return False
        try:
            size = count * self._size
            told = self._tables.read(self._table + mfn * self._size, size, "struct page_info")
        except ReadError:
            return False
        return not any(told)


def find_frames(used: Sequence[tuple[int, int]], count: int, xen: XenFrames) -> tuple[int, bool]:
    """Return the mfn of ``count`` frames in a row that a dump has no use for.

    In a gap of the dump where Xen has memory that is nobody's, so that filters
    such as ``makedumpfile -X`` keep it, and True; else behind all that the dump
    has, and False.

    :param used: the (start, end) machine addresses that the dump tells of, in order.
    """
    end = FIRST_MIB
    for start, stop in used:
        first, last = -(-end // PAGE_SIZE), start // PAGE_SIZE
        if last - first >= count:
            for mfn in (first, last - count):
                if xen.unused(mfn, count):
                    return mfn, True
        end = max(end, stop)
    return -(-end // PAGE_SIZE), False


# --------------------------------------------------------------------------
# The file


@dataclass(frozen=True)
class Segment:
    """A program header, Elf64_Phdr, as it stands in the file."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(frozen=True)
class Rewrite:
    """How the copy differs from its source, in bytes of the copy.

    ``head`` is how it begins.  From ``body`` on the source follows, ``shift``
    bytes further on than in the source.  Then ``patches``, by offset.
    """

    size: int
    head: bytes
    body: int
    shift: int
    patches: tuple[tuple[int, bytes], ...]


def plan(core: ElfCore, found: Diagnosis) -> tuple[Rewrite, ListPages, bool]:
    """Return how the copy differs, the list in it, and whether Xen knows its frames as unused.

    :raises P2mError: the file cannot be given one more program header.
    """
    with core.file.path.open("rb") as file:
        elf = ELFFile(file)
        file.seek(0)
        header = list(EHDR.unpack(file.read(EHDR.size)))
        file.seek(elf["e_phoff"])
        table = file.read(elf.num_segments() * PHDR.size)
        segments = [Segment(*fields) for fields in PHDR.iter_unpack(table)]
        size = core.file.path.stat().st_size
        extended = elf["e_phnum"] == PN_XNUM
        sections = elf["e_shoff"] if elf["e_shnum"] or extended else 0
    if not extended and len(segments) + 1 >= PN_XNUM:
        raise P2mError(
            f"{core.file.path}: has {len(segments)} program headers and can have no more"
        )

    used = sorted((s.paddr, s.paddr + s.memsz) for s in segments if s.type == PT_LOAD)
    count = pages_needed(len(found.rebuilt.leaves))
    mfn, unused = find_frames(used, count, XenFrames(found, core.notes))
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
    head = EHDR.pack(*header) + b"".join(PHDR.pack(*vars(s).values()) for s in moved)

    patches = [(end, pages.data)]
    if extended:
        patches.append((sections + shift + SH_INFO, struct.pack("<I", len(moved))))
    for note in core.notes:
        if note.owner == XEN_NOTE_OWNER and note.type == XEN_ELFNOTE_CRASH_INFO:
            last = note.offset + shift + len(note.data) // 8 * 8 - 8
            patches.append((last, struct.pack("<Q", pages.top)))
    copy = Rewrite(end + len(pages.data), head, body, shift, tuple(patches))
    return copy, pages, unused


def _moved(segment: Segment, size: int, shift: int) -> Segment:
    """Return a segment of a file of ``size`` bytes, ``shift`` bytes further on in the copy.

    What a file that is cut off has not of it, it loses: something else is there now.
    """
    there = min(segment.filesz, max(0, size - segment.offset))
    if there < segment.filesz:
        segment = replace(segment, filesz=there, memsz=there)
    return replace(segment, offset=segment.offset + shift if segment.offset else 0)


def _data(fd: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of what is not a hole in a file, from ``start`` on."""
    while start < size:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end
        start = end


def _cloned(source: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError:  # another file system, or one that cannot; each has its own errno
        return False
    return True


def check_paths(source: Path, target: Path, force: bool) -> None:
    """See that a copy of ``source`` may be made at ``target``.

    :raises P2mError: it is the same file, or something is there that must stay.
    """
    if not target.parent.is_dir():
        raise P2mError(f"{target.parent}: no such folder")
    if target.exists() and target.samefile(source):
        raise P2mError(f"{target}: is the dump itself, which is never written")
    if target.is_dir() or (target.exists() and not target.is_file()):
        raise P2mError(f"{target}: is not a file, name a new one")
    if os.path.lexists(target) and not force:
        raise P2mError(f"{target}: exists; name another file, or use --force")


def check_space(fd: int, folder: Path, more: int) -> None:
    """See that ``folder`` has room for a copy of the open file and ``more`` bytes.

    :raises P2mError: it has not.
    """
    needed = min(os.fstat(fd).st_blocks * 512, os.fstat(fd).st_size) + more
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise P2mError(
            f"{folder.resolve()}: has {free / 1e9:.1f} GB free,"
            f" the copy takes {needed / 1e9:.1f} GB: write it elsewhere,"
            " or open the dump with p2mfix VMLINUX VMCORE, which writes nothing"
        )


def write(
    rewrite: Rewrite,
    source: Path,
    target: Path,
    check: Callable[[Path], None],
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> bool:
    """Make the copy; return True when it shares its blocks with the source.

    It has a temporary name in the folder of ``target`` until it is whole, and
    whatever happens before leaves nothing behind.

    :param check: looks at the copy before it gets its name, and raises if it is not right.
    :param watch: is told how many bytes have been copied, and of how many.
    :raises P2mError: the space does not suffice, or ``check`` raises it.
    :raises OSError: reading or writing fails.
    """
    with source.open("rb", buffering=0) as old:
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        unfinished = Path(name)
        try:
            with os.fdopen(fd, "wb", buffering=0) as new:
                cloned = not rewrite.shift and _cloned(old.fileno(), fd)
                if not cloned:
                    more = len(rewrite.head) + sum(len(data) for _, data in rewrite.patches)
                    check_space(old.fileno(), target.parent, more)
                os.ftruncate(fd, rewrite.size)
                if not cloned:
                    _copy(old.fileno(), fd, rewrite, watch)
                for offset, data in ((0, rewrite.head), *rewrite.patches):
                    new.seek(offset)
                    new.write(data)
                os.fchmod(fd, os.fstat(old.fileno()).st_mode & 0o777)
                os.fsync(fd)
            check(unfinished)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    return cloned


def _copy(old: int, new: int, rewrite: Rewrite, watch: Callable[[int, int], None]) -> None:
    """Copy all but the beginning, holes as holes."""
    size = os.fstat(old).st_size
    for start, end in _data(old, rewrite.body, size):
        os.lseek(new, start + rewrite.shift, os.SEEK_SET)
        at = start
        while at < end:
            watch(at, size)
            copied = os.sendfile(new, old, at, min(CHUNK, end - at))
            if not copied:
                raise P2mError("the dump has become shorter while it was copied")
            at += copied
    watch(size, size)


def rewrite_dump(
    core: ElfCore,
    found: Diagnosis,
    target: Path,
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[ListPages, bool, bool]:
    """Write a copy of a dump with the rebuilt list in it.

    Return the list's pages, whether Xen knows their frames as unused, and
    whether the copy shares its blocks with the dump.

    :raises P2mError: there is no room, in the file's header or on the disk.
    :raises OSError: reading or writing fails.
    """
    copy, pages, unused = plan(core, found)

    def check(path: Path) -> None:
        """Read the list back as tools do."""
        written = ElfCore(path)
        info = xen_info(written.notes)
        listed = read_list(written, info.frame_list_mfn if info else 0)
        if listed.problems or listed.leaves != pages.leaves:
            raise P2mError(f"{target}: the list does not read back from the copy; nothing is kept")

    cloned = write(copy, core.file.path, target, check, watch)
    return pages, unused, cloned
