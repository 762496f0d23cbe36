"""Dumps made from a real one by breaking it in one known way."""

from __future__ import annotations

import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pykdump_ext.kernel import xen_info
from pykdump_ext.memory import PAGE_SHIFT, ElfCore
from pykdump_ext.namelist import Namelist
from pykdump_ext.p2m import PFNS_PER_LEAF, Diagnosis, diagnose

from .cache import product
from .dump import Dump

START_INFO_NR_PAGES = 32  # struct start_info, xen/include/public/xen.h


class DumpFile:
    """A dump file of the lab, opened to be written by machine address."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._loads = [
            (s["p_paddr"], s["p_filesz"], s["p_offset"])
            for s in ELFFile(self._file).iter_segments("PT_LOAD")
        ]

    def write(self, maddr: int, data: bytes) -> None:
        """Overwrite the bytes from machine address ``maddr`` on."""
        for start, size, offset in self._loads:
            if start <= maddr and maddr + len(data) <= start + size:
                self._file.seek(offset + maddr - start)
                self._file.write(data)
                return
        raise ValueError(f"machine address {maddr:x} is not in the dump")

    def close(self) -> None:
        self._file.close()


def diagnosis(dump: Dump) -> Diagnosis:
    """Return what the package itself finds in a dump."""
    core = ElfCore(dump.vmcore)
    namelist = Namelist(dump.vmlinux)
    info = xen_info(core.notes)
    assert info is not None
    return diagnose(core, namelist, namelist.banner(), info)


def copy_of(dump: Dump, folder: Path) -> Path:
    """Copy a dump into ``folder`` and return the copy's path."""
    copy = folder / "vmcore"
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", dump.vmcore, copy], check=True)
    return copy


def truncate_list(dump: Dump, copy: Path) -> None:
    """Make the list of ``copy`` end at ``nr_pages``, as the kernels of the report publish it.

    Every entry of a leaf at or above ``nr_pages / 512`` becomes the missing leaf's.
    """
    found = diagnosis(dump)
    kernel = found.kernel
    nr_pages = kernel.word(kernel.value("xen_start_info") + START_INFO_NR_PAGES, "nr_pages")
    tops = kernel.memory.read(found.info.frame_list_mfn << PAGE_SHIFT, 4096, "list of lists")
    missing = found.table.missing_mfn.to_bytes(8, "little")
    file = DumpFile(copy)
    for leaf in range(nr_pages // PFNS_PER_LEAF, len(found.table.leaves)):
        page = int.from_bytes(tops[leaf // 512 * 8 :][:8], "little")
        file.write((page << PAGE_SHIFT) + leaf % 512 * 8, missing)
    file.close()


def truncated(dump: Dump) -> Dump:
    """Return the dump of the report: the same, its list truncated at ``nr_pages``."""

    def make(folder: Path) -> None:
        truncate_list(dump, copy_of(dump, folder))

    made_from = (1, str(dump.vmcore))
    folder = product(f"truncated-{dump.vmlinux.name.removeprefix('vmlinux-')}", made_from, make)
    return Dump(dump.vmlinux, folder / "vmcore")


def not_xen(dump: Dump) -> Dump:
    """Return the dump without Xen's notes, as one of a machine without Xen would be."""

    def make(folder: Path) -> None:
        copy = copy_of(dump, folder)
        with copy.open("r+b") as file:
            segment = next(ELFFile(file).iter_segments("PT_NOTE"))
            file.seek(segment["p_offset"])
            notes = file.read(segment["p_filesz"]).replace(b"Xen\0", b"Non\0")
            file.seek(segment["p_offset"])
            file.write(notes)

    folder = product(
        f"not-xen-{dump.vmlinux.name.removeprefix('vmlinux-')}", (1, str(dump.vmcore)), make
    )
    return Dump(dump.vmlinux, folder / "vmcore")
