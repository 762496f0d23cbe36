# SPDX-License-Identifier: GPL-3.0-or-later
"""Real dumps turned into those of older kernels: their p2m planted where they kept it.

Every leaf that holds memory is moved to the end of memory, which a truncated
list does not cover: only page tables lead to it there.
"""

from __future__ import annotations

import mmap
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE

from .broken import DumpFile, copy_of, diagnosis, free_pages, list_entry, truncate_list
from .cache import product
from .dump import Dump

WORD = 8
PER_PAGE = PAGE_SIZE // WORD
NOTHING = b"\xff" * PAGE_SIZE  # a leaf of missing entries
TWO_LEVEL_ENTRIES = 4096  # of the array that becomes p2m_top
SPARE_PAGES = 16  # for what stands above the leaves: five pages of a three-level tree


def words(values: list[int]) -> bytes:
    """Return 64-bit values as they stand in memory."""
    return b"".join(value.to_bytes(WORD, "little") for value in values)


class Soil:
    """A copy of a dump that is planted in; addresses are those of its kernel."""

    def __init__(self, dump: Dump, copy: Path) -> None:
        self.found = diagnosis(dump)
        self.leaves = self.found.table.leaves
        base = self.found.kernel.page_offset()
        pages = free_pages(self.found, len(self.leaves) + SPARE_PAGES)
        self._free = [base + (pfn << PAGE_SHIFT) for pfn in reversed(pages)]
        self._file = DumpFile(copy)

    def write(self, vaddr: int, data: bytes) -> None:
        """Overwrite memory, page by page: it is contiguous for the kernel only."""
        while data:
            part = PAGE_SIZE - vaddr % PAGE_SIZE
            self._file.write(self.found.kernel.tables.translate(vaddr), data[:part])
            vaddr, data = vaddr + part, data[part:]

    def new_page(self, content: bytes) -> int:
        """Write a free page and return its address: that behind the one before."""
        vaddr = self._free.pop()
        self.write(vaddr, content)
        return vaddr

    def move_leaf(self, index: int) -> int:
        """Move a leaf to a free page, in the dump's list, too, and return its address.

        A shared leaf becomes one of its own, of missing entries.
        """
        mfn = self.leaves[index]
        shared = self.found.table.shared(mfn)
        memory = self.found.kernel.memory
        vaddr = self.new_page(
            NOTHING if shared else memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")
        )
        new = self.found.kernel.mfn_at(vaddr, "p2m leaf")
        self._file.write(list_entry(self.found, index), words([new]))
        return vaddr


def plant_three_levels(soil: Soil) -> None:
    """Plant the tree of 2.6.37 to 3.18: its pages of pointers, and pointers to two of them."""
    kernel, table = soil.found.kernel, soil.found.table
    missing = kernel.value("p2m_missing")
    shared = {table.missing_mfn: missing, table.identity_mfn: kernel.value("p2m_identity")}
    leaves = [shared.get(mfn) or soil.move_leaf(index) for index, mfn in enumerate(soil.leaves)]
    leaves += [missing] * (-len(leaves) % PER_PAGE)
    mids = [
        soil.new_page(words(leaves[first : first + PER_PAGE]))
        for first in range(0, len(leaves), PER_PAGE)
    ]
    mid_missing = soil.new_page(words([missing] * PER_PAGE))
    top = soil.new_page(words([*mids, *[mid_missing] * (PER_PAGE - len(mids))]))
    soil.write(kernel.address("xen_p2m_addr"), words([top]))
    soil.write(kernel.address("xen_p2m_size"), words([mid_missing]))


def plant_two_levels(soil: Soil) -> None:
    """Plant the array of 2.6.27 to 2.6.36, which knew no identity, and the missing leaf."""
    kernel, table = soil.found.kernel, soil.found.table
    missing, top = kernel.address("tsc_pg"), kernel.address("klp_shadow_hash")
    assert not any(kernel.read(missing, PAGE_SIZE, "tsc_pg")), "it is in use"
    assert not any(kernel.read(top, TWO_LEVEL_ENTRIES * WORD, "klp_shadow_hash")), "it is in use"
    soil.write(missing, NOTHING)
    leaves = [
        missing if table.shared(mfn) else soil.move_leaf(index)
        for index, mfn in enumerate(soil.leaves)
    ]
    soil.write(top, words([*leaves, *[missing] * (TWO_LEVEL_ENTRIES - len(leaves))]))


def plant_flat(soil: Soil) -> None:
    """Plant the array of XenLinux: every leaf, behind the one before."""
    leaves = [soil.move_leaf(index) for index in range(len(soil.leaves))]
    soil.write(soil.found.kernel.address("xen_p2m_addr"), words(leaves[:1]))


@dataclass(frozen=True)
class Plant:
    """How a layout is planted, and the symbols of the real kernel that have its names then.

    ``array``: the variable among them that debug information must have by its new name.
    ``options``: what crash must be told besides.
    """

    plant: Callable[[Soil], None]
    symbols: Mapping[str, str]
    array: str | None = None
    options: tuple[str, ...] = ()


PLANTS = {
    "three-level": Plant(
        plant_three_levels, {"xen_p2m_addr": "p2m_top", "xen_p2m_size": "p2m_mid_missing"}
    ),
    # The two that it takes are arrays of livepatch and Hyper-V, of the right size
    # and alignment, in which nothing is
    "two-level": Plant(
        plant_two_levels,
        {
            "xen_p2m_addr": "no_p2m_addr",
            "xen_p2m_size": "no_p2m_size",
            "p2m_missing": "no_p2m_missing",
            "p2m_identity": "no_p2m_identity",
            "klp_shadow_hash": "p2m_top",
            "tsc_pg": "p2m_missing",
        },
        array="klp_shadow_hash",
    ),
    # Without pv_ops crash takes a kernel for XenLinux; where this one has its virtual
    # memory map, which XenLinux has not, it must be told
    "flat": Plant(
        plant_flat,
        {
            "xen_p2m_addr": "phys_to_machine_mapping",
            "xen_p2m_size": "no_p2m_size",
            "p2m_missing": "no_p2m_missing",
            "p2m_identity": "no_p2m_identity",
            "pv_ops": "no_pv_ops",
        },
        options=("--machdep", "vm=2.6.11"),
    ),
}


def older_kernel(vmlinux: Path, copy: Path, plant: Plant) -> None:
    """Make a copy of ``vmlinux`` with the symbols of ``plant``, its top page table's, too."""
    symbols = {**plant.symbols, "init_top_pgt": "init_level4_pgt"}
    renamed = [f"--redefine-sym={old}={new}" for old, new in symbols.items()]
    # The relocations are half of the file, and nobody's
    subprocess.run(["objcopy", "--remove-relocations=*", *renamed, vmlinux, copy], check=True)
    if plant.array is not None:
        rename_in_debug_info(copy, plant.array, symbols[plant.array])


def rename_in_debug_info(vmlinux: Path, old: str, new: str) -> None:
    """Overwrite the name of a variable, which must be the file's only such string.

    Only its beginning: other names may be the tail of it.
    """
    assert len(new) < len(old)
    name = f"\0{old}\0".encode()
    with vmlinux.open("r+b") as file, mmap.mmap(file.fileno(), 0) as text:
        at = text.find(name)
        assert at >= 0 and text.find(name, at + 1) < 0
        text[at : at + len(new) + 2] = f"\0{new}\0".encode()


def planted(dump: Dump, layout: str, prefix: str = "") -> tuple[Dump, Dump]:
    """Return a dump whose kernel has its p2m in that layout, whole and truncated.

    :param prefix: what the product's name begins with: the cache keeps few of a name.
    """

    def make(folder: Path) -> None:
        older_kernel(dump.vmlinux, folder / dump.vmlinux.name, PLANTS[layout])
        for name in ("whole", "truncated"):
            (folder / name).mkdir()
            copy = copy_of(dump, folder / name)
            PLANTS[layout].plant(Soil(dump, copy))
            if name == "truncated":
                truncate_list(dump, copy)

    release = dump.vmlinux.name.removeprefix("vmlinux-")
    folder = product(f"{prefix}{layout}-{release}", (2, str(dump.vmcore), str(dump.vmlinux)), make)
    vmlinux = folder / dump.vmlinux.name
    return Dump(vmlinux, folder / "whole/vmcore"), Dump(vmlinux, folder / "truncated/vmcore")
