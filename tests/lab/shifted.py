# SPDX-License-Identifier: GPL-3.0-or-later
"""A vmlinux linked at other addresses than those that its kernel had in the dump."""

from __future__ import annotations

import mmap
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pykdump_ext.linux.kernel import START_KERNEL_MAP

from .cache import product
from .dump import Dump

R_X86_64_64 = 1


def addresses(elf: ELFFile, linked: ELFFile) -> Iterator[int]:
    """Yield the offset in the file of everything in ``elf`` that may be a kernel address.

    In its debug information the relocations tell, which the linker has left in
    ``linked``.
    """
    for number in range(elf["e_phnum"]):
        yield elf["e_phoff"] + number * elf["e_phentsize"] + 16  # p_vaddr
    for number, section in enumerate(elf.iter_sections()):
        yield elf["e_shoff"] + number * elf["e_shentsize"] + 16  # sh_addr
        relocations = linked.get_section_by_name(f".rela{section.name}")
        if section["sh_type"] == "SHT_SYMTAB":
            for symbol in range(0, section["sh_size"], section["sh_entsize"]):
                yield section["sh_offset"] + symbol + 8  # st_value
        elif section.name.startswith(".debug_") and relocations is not None:
            entries = array("Q", relocations.data())  # struct Elf64_Rela: offset, info, addend
            for offset, info in zip(entries[::3], entries[1::3]):
                if info & 0xFFFFFFFF == R_X86_64_64:
                    yield section["sh_offset"] + offset


def shifted(dump: Dump, by: int) -> Dump:
    """Return the dump with a vmlinux that has all the kernel's addresses ``by`` bytes higher."""

    def make(folder: Path) -> None:
        copy = folder / dump.vmlinux.name
        subprocess.run(["objcopy", "--remove-relocations=*", dump.vmlinux, copy], check=True)
        with dump.vmlinux.open("rb") as linked, copy.open("r+b") as file:
            content = mmap.mmap(file.fileno(), 0)
            for at in addresses(ELFFile(file), ELFFile(linked)):
                address = int.from_bytes(content[at : at + 8], "little")
                if address >= START_KERNEL_MAP:
                    content[at : at + 8] = (address + by).to_bytes(8, "little")
            content.close()

    name = f"shifted-{by:x}-{dump.vmlinux.name.removeprefix('vmlinux-')}"
    return Dump(product(name, (1, str(dump.vmlinux)), make) / dump.vmlinux.name, dump.vmcore)
