# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps made from a real one by breaking it in one known way."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.leaves import PFNS_PER_LEAF

from .cache import product
from .dump import Dump

START_INFO_NR_PAGES = 32  # struct start_info, xen/include/public/xen.h


class DumpFile:
    """A dump file of the lab, opened to be damaged, and to be as it was again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("r+b", buffering=0)
        elf = ELFFile(self._file)
        self._loads = [
            (s["p_paddr"], s["p_filesz"], s["p_offset"]) for s in elf.iter_segments("PT_LOAD")
        ]
        note = next(elf.iter_segments("PT_NOTE"))
        self._notes = (note["p_offset"], note["p_filesz"])
        self._undo: list[tuple[int, bytes]] = []

    def write(self, maddr: int, data: bytes) -> None:
        """Overwrite the bytes from machine address ``maddr`` on."""
        for start, size, offset in self._loads:
            if start <= maddr and maddr + len(data) <= start + size:
                self.write_at(offset + maddr - start, data)
                return
        raise ValueError(f"machine address {maddr:x} is not in the dump")

    def write_at(self, offset: int, data: bytes) -> None:
        """Overwrite the bytes from that offset of the file on."""
        self._file.seek(offset)
        self._undo.append((offset, self._file.read(len(data))))
        self._file.seek(offset)
        self._file.write(data)

    def edit_notes(self, edit: Callable[[bytes], bytes]) -> None:
        """Replace the notes by what ``edit`` makes of them, of the same length."""
        offset, size = self._notes
        self._file.seek(offset)
        old = self._file.read(size)
        new = edit(old)
        assert len(new) == size and new != old
        self.write_at(offset, new)

    def undo(self) -> None:
        """Take all that was written back."""
        while self._undo:
            offset, data = self._undo.pop()
            self._file.seek(offset)
            self._file.write(data)
        self._file.close()


def without_xen_notes(notes: bytes) -> bytes:
    """Make Xen's notes somebody else's, of another type."""
    return re.sub(rb"..\0\x01Xen\0", b"\x07\0\0\0Non\0", notes)


def with_list_mfn(mfn: int) -> Callable[[bytes], bytes]:
    """Return an edit that has the list of lists at ``mfn``: the CRASH_INFO note's last word."""

    def edit(notes: bytes) -> bytes:
        header = re.search(rb"\x01\0\0\x01Xen\0", notes)
        assert header
        size = int.from_bytes(notes[header.start() - 4 : header.start()], "little")
        last = header.end() + size - 8
        return notes[:last] + mfn.to_bytes(8, "little") + notes[last + 8 :]

    return edit


def with_cr3s(maddr: int) -> Callable[[bytes], bytes]:
    """Return an edit that has every cpu's cr3 be ``maddr``: the CRASH_REGS notes."""

    def edit(notes: bytes) -> bytes:
        for header in list(re.finditer(rb"\x02\0\0\x01Xen\0", notes)):
            cr3 = header.end() + 16
            notes = notes[:cr3] + maddr.to_bytes(8, "little") + notes[cr3 + 8 :]
        return notes

    return edit


def diagnosis(dump: Dump) -> Diagnosis:
    """Return what the package itself finds in a dump."""
    return OpenedDump(ElfCore(dump.vmcore), [Namelist(dump.vmlinux)]).diagnosis


def copy_of(dump: Dump, folder: Path) -> Path:
    """Copy a dump into ``folder`` and return the copy's path."""
    copy = folder / "vmcore"
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", dump.vmcore, copy], check=True)
    return copy


def list_entry(found: Diagnosis, leaf: int) -> int:
    """Return the machine address of the entry that the dump's list has for a leaf."""
    tops = found.kernel.memory.read(found.hints.frame_list_mfn << PAGE_SHIFT, 4096, "list of lists")
    page = int.from_bytes(tops[leaf // 512 * 8 :][:8], "little")
    return (page << PAGE_SHIFT) + leaf % 512 * 8


def truncate_list(dump: Dump, copy: Path) -> None:
    """Make the list of ``copy`` end at ``nr_pages``, as the kernels of the report publish it.

    Every entry of a leaf at or above ``nr_pages / 512`` becomes the missing leaf's.
    """
    found = diagnosis(dump)
    kernel = found.kernel
    nr_pages = kernel.word(kernel.value("xen_start_info") + START_INFO_NR_PAGES, "nr_pages")
    missing = found.table.missing_mfn.to_bytes(8, "little")
    file = DumpFile(copy)
    for leaf in range(nr_pages // PFNS_PER_LEAF, len(found.table.leaves)):
        file.write(list_entry(found, leaf), missing)


def free_pages(found: Diagnosis, count: int) -> list[int]:
    """Return ``count`` consecutive pfns of memory that nothing has ever been written to.

    From the end of memory down: there the kernel has handed out least.
    """
    run: list[int] = []
    for pfn in range(found.table.max_pfn - 1, 0, -1):
        entry = found.entry(found.rebuilt, pfn)
        empty = (
            entry is not None
            and found.kind(pfn) is Kind.MEMORY
            and not any(found.kernel.memory.read(entry << PAGE_SHIFT, PAGE_SIZE, "a page"))
        )
        run = [pfn, *run] if empty else []
        if len(run) == count:
            return run
    raise RuntimeError("the dump has no free pages to plant anything in")


def lose(dump: Dump, copy: Path, pfns: Iterable[int]) -> None:
    """Make the list of ``copy`` lose single pfns: their leaves are stale copies without them.

    The copies stand at the end of memory, in pages that nothing was ever written to.
    """
    found = diagnosis(dump)
    memory = found.kernel.memory
    lost = sorted(set(pfns))
    leaves = sorted({pfn // PFNS_PER_LEAF for pfn in lost})
    file = DumpFile(copy)
    for leaf, free in zip(leaves, free_pages(found, len(leaves))):
        old, new = found.rebuilt.leaf(leaf), found.entry(found.rebuilt, free)
        assert old is not None and new is not None
        entries = bytearray(memory.read(old << PAGE_SHIFT, PAGE_SIZE, "p2m leaf"))
        for pfn in lost:
            if pfn // PFNS_PER_LEAF == leaf:
                at = pfn % PFNS_PER_LEAF * 8
                entries[at : at + 8] = b"\xff" * 8
        file.write(new << PAGE_SHIFT, bytes(entries))
        file.write(list_entry(found, leaf), new.to_bytes(8, "little"))


def truncated(dump: Dump, prefix: str = "") -> Dump:
    """Return the dump of the report: the same, its list truncated at ``nr_pages``.

    :param prefix: what the product's name begins with: the cache keeps few of a name.
    """

    def make(folder: Path) -> None:
        truncate_list(dump, copy_of(dump, folder))

    made_from = (1, str(dump.vmcore))
    name = f"{prefix}truncated-{dump.vmlinux.name.removeprefix('vmlinux-')}"
    folder = product(name, made_from, make)
    return Dump(dump.vmlinux, folder / "vmcore")


def not_xen(dump: Dump) -> Dump:
    """Return the dump without Xen's notes, as one of a machine without Xen would be."""

    def make(folder: Path) -> None:
        DumpFile(copy_of(dump, folder)).edit_notes(without_xen_notes)

    folder = product(
        f"not-xen-{dump.vmlinux.name.removeprefix('vmlinux-')}", (2, str(dump.vmcore)), make
    )
    return Dump(dump.vmlinux, folder / "vmcore")
