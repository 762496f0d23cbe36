# SPDX-License-Identifier: GPL-3.0-or-later
"""An ELF dump of a PV domain as its kernel would have written it without Xen.

It is what ``/proc/vmcore`` of a machine without Xen is (``fs/proc/vmcore.c``; its headers are made
by ``crash_prepare_elf64_headers()``, kernel/crash_core.c): a note with the registers of each cpu,
the kernel's vmcoreinfo, a segment for the kernel's text, and one for each run of pages.

Two values differ from those in the domain's memory.  ``crash_notes`` of each cpu has the registers,
which a kernel saves there when it crashes, and Xen elsewhere.  ``xen_start_info`` is 0, because
programs such as crash take a kernel where it is not for one under Xen.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import P2mError, ReadError
from ..linux.vmcoreinfo import swapper
from ..machine.dumps import open_dump
from ..machine.elf import (
    EHDR,
    ET_CORE,
    IDENT_64_LITTLE,
    PHDR,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    Segment,
)
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, split_by_page
from ..machine.paging import PageTables
from ..outputs import mode_of, new_file, write_at
from ..xen.vcpus import NT_PRSTATUS, PR_REG, REGISTERS, Registers
from .memory import NativeMemory

__all__ = [
    "Saved", "Watch", "check_dump", "empty_dump", "fill_dump", "prstatus", "write_dump",
]  # fmt: skip

EM_X86_64, EV_CURRENT = 62, 1
ALL = 7  # PF_R, PF_W and PF_X
SHDR = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
MOST_SEGMENTS = 1 << 18
SPARE = 8  # the notes, and the kernel's text, which may be in more than one piece
PAGES_AT_ONCE = 512  # 2 MiB
ZEROS = bytes(PAGE_SIZE)
SIZE_PRSTATUS = 336  # bytes of struct elf_prstatus, x86-64
PR_PID = 32  # offset of its pr_pid
UNKNOWN = Registers((0,) * REGISTERS)
Watch = Callable[[int, int], None]
Patches = list[tuple[int, bytes]]  # of a page: offset and bytes


@dataclass(frozen=True)
class Saved:
    """What a kernel without Xen saves when it crashes.

    ``notes`` has, for each cpu, the virtual address of its ``crash_notes``, and the NT_PRSTATUS
    note that belongs there: an empty one where the registers are not known.  ``seconds`` is the
    kernel's clock, since 1970.
    """

    notes: Sequence[tuple[int, bytes]]
    seconds: int


def prstatus(registers: Registers, pid: int) -> bytes:
    """Return the ELF note with these registers that ``crash_save_cpu()`` would write."""
    status = bytearray(SIZE_PRSTATUS)
    struct.pack_into("<i", status, PR_PID, pid)
    struct.pack_into(f"<{len(registers.words)}Q", status, PR_REG, *registers.words)
    return struct.pack("<III8s", 5, len(status), NT_PRSTATUS, b"CORE") + status


def write_dump(
    native: NativeMemory,
    saved: Saved,
    target: Path,
    inputs: Sequence[str],
    watch: Watch,
    replace: bool = False,
) -> int:
    """Write a dump of a domain, and return the number of bytes of its memory.

    Pages that this dump lacks are not in the other one either.  Pages of zeros take no space.

    :param inputs: the files that are read, which are never written.
    :param watch: gets the number of bytes that are written, and of all bytes.
    :param replace: a file at ``target`` may be replaced.
    :raises P2mError: ``target`` must not be written, or the kernel lacks a symbol, or the dump
        lacks so many pages that no ELF file can have a segment for each run.
    :raises OSError: reading or writing fails.
    """
    with new_file(target, mode_of(inputs), inputs, replace) as (fd, unfinished):
        size = fill_dump(native, saved, fd, watch)
        check_dump(native, unfinished)
    return size


def fill_dump(native: NativeMemory, saved: Saved, fd: int, watch: Watch) -> int:
    """Write a dump of a domain into an empty file, and return the number of bytes of its memory.

    :param watch: gets the number of bytes that are written, and of all bytes.
    :raises P2mError: as :func:`write_dump`.
    :raises OSError: reading or writing fails.
    """
    patches = _by_pfn(native, [*saved.notes, *_no_xen(native)])
    # programs count the notes, so there is one for each cpu
    notes = b"".join(note or prstatus(UNKNOWN, 0) for _, note in saved.notes)
    notes += _vmcoreinfo_note(native, saved.seconds)
    runs = [*native.runs()]
    text = _text(native)
    size = sum(length for _, length in runs)
    # What is missing is known at the end; the headers have room for all that it can split
    most = min(MOST_SEGMENTS, size >> PAGE_SHIFT)
    notes_at = EHDR.size + PHDR.size * (most + SPARE) + SHDR.size
    data_at = -(-(notes_at + len(notes)) // PAGE_SIZE) * PAGE_SIZE
    native.find_tables()
    os.ftruncate(fd, data_at + size)
    segments = [Segment(PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 0)]
    done = 0
    for run in runs:
        shift = data_at + done - run[0]
        show = partial(_show, watch, done, size)
        for there in _copy(native, run, patches, fd, shift, show):
            segments += _segments(native, there, shift, text)
        done += run[1]
    if len(segments) > most + SPARE:
        raise P2mError(
            f"the dump lacks pages in {len(segments):,} places, more than an ELF file can have"
            " segments for: open it with p2mfix drgn, or with p2mfix"
        )
    write_at(fd, notes, notes_at)
    write_at(fd, _headers(segments), 0)
    return size


def empty_dump(native: NativeMemory) -> bytes:
    """Return a dump of a domain that has its vmcoreinfo, and none of its memory.

    :raises P2mError: the kernel has no vmcoreinfo, or it is damaged.
    """
    notes, at = _vmcoreinfo_note(native, 0), EHDR.size + PHDR.size
    return _headers([Segment(PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 0)]) + notes


def _show(watch: Watch, before: int, size: int, done: int) -> None:
    watch(before + done, size)


def _headers(segments: Sequence[Segment]) -> bytes:
    """Return the header of an ELF core file, and its program headers."""
    many = len(segments) >= PN_XNUM
    sections = EHDR.size + PHDR.size * len(segments)  # a header that has their number, where many
    header = EHDR.pack(
        (IDENT_64_LITTLE + b"\1").ljust(16, b"\0"), ET_CORE, EM_X86_64, EV_CURRENT, 0, EHDR.size,
        sections if many else 0, 0, EHDR.size, PHDR.size, PN_XNUM if many else len(segments),
        SHDR.size if many else 0, int(many), 0,
    )  # fmt: skip
    count = SHDR.pack(0, 0, 0, 0, 0, 0, 0, len(segments), 0, 0) if many else b""
    return header + b"".join(PHDR.pack(*segment) for segment in segments) + count


def _text(native: NativeMemory) -> tuple[int, int, int]:
    """Return the virtual and the pseudo-physical address of the kernel's text, and its bytes."""
    kernel = native.found.kernel
    start, end = kernel.address("_text"), kernel.address("_end")
    return start, native.paddr(start, "_text"), end - start


def _segments(
    native: NativeMemory, run: tuple[int, int], shift: int, text: tuple[int, int, int]
) -> Iterator[Segment]:
    """Yield the segments of a run of pages: of the kernel's text, and of the direct map.

    :param run: its pseudo-physical address, and bytes.
    :param shift: from such an address to the place in the file.
    :param text: see :func:`_text`.
    """
    vaddr, first, length = text
    start, size = run
    begin, stop = max(start, first), min(start + size, first + length)
    if begin < stop:
        part = stop - begin
        yield Segment(PT_LOAD, ALL, begin + shift, vaddr + begin - first, begin, part, part, 0)
    yield Segment(PT_LOAD, ALL, start + shift, native.direct_map + start, start, size, size, 0)


def _copy(
    native: NativeMemory,
    run: tuple[int, int],
    patches: Mapping[int, Patches],
    fd: int,
    shift: int,
    watch: Callable[[int], None],
) -> list[tuple[int, int]]:
    """Copy a run of pages into a file; return the runs of it that the dump has.

    :param shift: from a pseudo-physical address to the place in the file.
    :param watch: gets the number of bytes that are copied.
    """
    there: list[tuple[int, int]] = []
    start, length = run
    for pfn, page in native.pages(start >> PAGE_SHIFT, length >> PAGE_SHIFT):
        paddr = pfn << PAGE_SHIFT
        if pfn % PAGES_AT_ONCE == 0:
            watch(paddr - start)
        if page is None:
            continue
        if there and sum(there[-1]) == paddr:
            there[-1] = (there[-1][0], there[-1][1] + PAGE_SIZE)
        else:
            there.append((paddr, PAGE_SIZE))
        if page != ZEROS:
            write_at(fd, page, paddr + shift)
        for offset, data in patches.get(pfn, ()):
            write_at(fd, data, paddr + shift + offset)
    watch(length)
    return there


def check_dump(native: NativeMemory, path: Path) -> None:
    """Find the kernel in the new dump by its own page tables.

    :raises P2mError: it is not there.
    """
    kernel = native.found.kernel
    top = native.paddr(swapper(kernel), "swapper_pg_dir")
    banner = kernel.address("linux_banner")
    written = PageTables(open_dump([path]), top)
    if written.read(banner, len(kernel.banner), "linux_banner") != kernel.banner:
        raise P2mError("the kernel does not read back from the copy, so the copy is deleted")


def _by_pfn(native: NativeMemory, wanted: Iterable[tuple[int, bytes]]) -> dict[int, Patches]:
    """Return what differs from the domain's memory, by pfn: offsets in the page, and bytes.

    :param wanted: virtual addresses, and bytes.
    """
    found: dict[int, Patches] = {}
    for vaddr, data in wanted:
        for part, size in split_by_page(vaddr, len(data)):
            try:
                paddr = native.paddr(part, "crash_notes")
            except ReadError:  # the notes are in the file's header as well
                continue
            patch = (paddr % PAGE_SIZE, data[part - vaddr : part - vaddr + size])
            found.setdefault(paddr >> PAGE_SHIFT, []).append(patch)
    return found


def _no_xen(native: NativeMemory) -> Iterator[tuple[int, bytes]]:
    """Yield the variable by which programs know a kernel under Xen, and its content without Xen."""
    vaddr = native.found.kernel.symbols.address("xen_start_info")
    if vaddr is not None:
        yield vaddr, bytes(8)


def _vmcoreinfo_note(native: NativeMemory, seconds: int) -> bytes:
    text, name = native.vmcoreinfo(seconds), b"VMCOREINFO\0"
    header = struct.pack("<III", len(name), len(text), 0)
    return header + b"".join(part.ljust(-(-len(part) // 4) * 4, b"\0") for part in (name, text))
