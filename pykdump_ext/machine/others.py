# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that people take for dumps of Xen hosts: packed dumps, and dumps of one domain."""

from __future__ import annotations

import shlex
import struct

from ..errors import OtherFileError
from .elf import PT_LOAD, ElfCore
from .files import DumpFile

__all__ = ["refuse_one_domain", "refuse_packed"]

# What a packed file begins with, and the program that unpacks it
PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4"),
    b"\x89LZO\0": ("lzop", "lzop -d"),
    b"PK\3\4": ("zip", "unzip"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "7z x"),
}
TAR_MAGIC = (257, b"ustar")  # offset and bytes
SECTION = struct.Struct("<II16xQQ")  # sh_name, sh_type, sh_offset, sh_size of Elf64_Shdr
SECTION_SIZE = 64  # bytes of Elf64_Shdr
MOST_SECTIONS = 64  # Xen writes at most eight
LONGEST_NAMES = 4096


def refuse_packed(file: DumpFile) -> None:
    """Do nothing, unless the file is packed.

    :raises OtherFileError: it is; the error names the program that unpacks it.
    """
    head = file.read_at(0, 512)
    offset, magic = TAR_MAGIC
    found = [how for begin, how in PACKED.items() if head.startswith(begin)]
    if head[offset:].startswith(magic):
        found = [("tar", "tar -xf")]
    for name, unpack in found:
        raise OtherFileError(
            f"{file.path}: packed with {name}: unpack it",
            verdict=f"packed with {name}",
            next=shlex.join([*unpack.split(), str(file.path)]),
        )


def refuse_one_domain(core: ElfCore) -> None:
    """Do nothing, unless an ELF core file is the dump of one domain.

    ``xl dump-core`` and ``virsh dump`` write such files: no segments, and sections named
    ``.xen_p2m`` for a PV domain, ``.xen_pfn`` for others (docs/misc/dump-core-format.txt of
    Xen). crash reads them by itself.

    :raises OtherFileError: it is one.
    """
    if any(segment.type == PT_LOAD for segment in core.headers):
        return
    names = _section_names(core)
    kind = "a PV" if b".xen_p2m" in names else "an HVM or PVH" if b".xen_pfn" in names else ""
    if kind:
        path = str(core.file.path)
        how = shlex.join(["crash", "VMLINUX", path])
        raise OtherFileError(
            f"{path}: the dump of one domain, {kind} guest, made by xl dump-core: it needs no list,"
            f" and plain crash opens it: {how}",
            verdict=f"the dump of one domain, {kind} guest, made by xl dump-core",
            next=how,
        )


def _section_names(core: ElfCore) -> list[bytes]:
    """Return the names of an ELF file's sections, as far as they can be read."""
    table_at, count, names_index = core.header[6], core.header[12], core.header[13]
    table = core.file.read_at(table_at, min(count, MOST_SECTIONS) * SECTION_SIZE)
    sections = [
        SECTION.unpack_from(table, at)
        for at in range(0, len(table) - SECTION_SIZE + 1, SECTION_SIZE)
    ]
    if names_index >= len(sections):
        return []
    _, _, offset, size = sections[names_index]
    names = core.file.read_at(offset, min(size, LONGEST_NAMES))
    return [names[name:].split(b"\0")[0] for name, *_ in sections]
