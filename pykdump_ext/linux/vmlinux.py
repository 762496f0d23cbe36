# SPDX-License-Identifier: GPL-3.0-or-later
"""An ELF file of a kernel: its symbols, its initialised data, what it has of debug information.

The headers are read by hand: all that an ELF header can announce is bounded by the size of its
numbers, and what a program header or section header announces by the size of the file.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

from ..errors import P2mError
from .packed import open_plain

__all__ = ["Section", "VmlinuxFile"]

# Elf64_Ehdr without e_ident, Elf64_Phdr, Elf64_Shdr, Elf64_Sym
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
IDENT = b"\x7fELF\x02\x01"  # 64-bit, little-endian
PT_LOAD = 1
SHT_NOBITS = 8
SHF_COMPRESSED = 0x800
NT_GNU_BUILD_ID = 3
ZSTD = 2  # ELFCOMPRESS_ZSTD
LARGEST_TABLE = 64 << 20  # bytes of symbols or of names; a kernel has a few MiB


@dataclass(frozen=True)
class Section:
    """A section: its name and flags, where it is in the file, its size in bytes."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int


class VmlinuxFile:
    """An ELF file of a kernel, or of its debug information, packed or not.

    A kernel has two hundred thousand symbols, and few are asked for. So their names stay as they
    are: the string table is searched for a name, and its offset there leads to the symbol.

    :raises P2mError: the file is not an ELF file that can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file, self._unpacked = open_plain(self.path)
        self.size = self._file.size
        """Bytes, unpacked."""
        if not self.size:
            raise _unreadable(path, "it is empty")
        self._read_headers()
        self._symbols = self._names = b""
        self._read_symbols()

    @property
    def plain(self) -> Path:
        """The path of the file as it is unpacked."""
        return self._file.path

    @property
    def packed(self) -> bool:
        """True if the file is packed."""
        return self._unpacked is not None

    def _read_headers(self) -> None:
        header = self._file.read_at(0, HEADER.size)
        if len(header) < HEADER.size or not header.startswith(IDENT):
            raise _unreadable(self.path, "it is not one of x86-64")
        _, _, _, _, _, segments, sections, _, _, _, segment_count, _, count, names = (
            HEADER.unpack(header)
        )  # fmt: skip
        table = self._file.read_at(segments, segment_count * SEGMENT.size)
        parts = [table[at : at + SEGMENT.size] for at in range(0, len(table), SEGMENT.size)]
        read = [SEGMENT.unpack(part) for part in parts if len(part) == SEGMENT.size]
        self._loads = [(s[3], s[5], s[2]) for s in read if s[0] == PT_LOAD]
        table = self._file.read_at(sections, count * SECTION.size)
        if len(table) < count * SECTION.size:
            raise P2mError(f"{self.path}: is cut off: its section headers are missing")
        rows = [*SECTION.iter_unpack(table)]
        at, size = rows[names][4:6] if names < len(rows) else (0, 0)
        strings = self._file.read_at(at, min(size, LARGEST_TABLE))
        self.sections = [
            Section(_string(strings, row[0]), row[1], row[2], row[4], row[5]) for row in rows
        ]

    def section(self, name: str) -> Section | None:
        """Return the section of that name which has contents, or None."""
        found = (s for s in self.sections if s.name == name and s.kind != SHT_NOBITS and s.size)
        return next(found, None)

    def _read_symbols(self) -> None:
        symtab, strtab = self.section(".symtab"), self.section(".strtab")
        if symtab is None or strtab is None:
            return
        for table in (symtab, strtab):
            if table.offset + table.size > self.size:
                raise P2mError(f"{self.path}: is cut off: some of its symbols are missing")
            if table.size > LARGEST_TABLE:
                raise _unreadable(self.path, f"its {table.name} has {table.size:,} bytes")
        if symtab.size % SYMBOL.size:
            raise _unreadable(
                self.path, f"the size of its .symtab is damaged: {symtab.size:,} bytes"
            )
        self._symbols = self._file.read_at(symtab.offset, symtab.size)
        self._names = self._file.read_at(strtab.offset, strtab.size)

    @property
    def has_symbols(self) -> bool:
        """True if the file has a symbol table."""
        return bool(self._symbols)

    @property
    def has_data(self) -> bool:
        """True if the file has the kernel's text and data, and not only what tools need."""
        return self.section(".text") is not None

    def address(self, name: str) -> int | None:
        """Return the link-time address of the symbol ``name``, or None."""
        wanted = name.encode() + b"\0"  # a linker may store it as the tail of a longer name
        found = self._names.find(wanted)
        while found >= 0:
            if found in self._values:
                return self._values[found]
            found = self._names.find(wanted, found + 1)
        return None

    @cached_property
    def _values(self) -> dict[int, int]:
        """The value of each defined symbol, by the offset of its name; the first one's counts."""
        names = array("I", self._symbols)[:: SYMBOL.size // 4]
        sections = array("H", self._symbols)[3 :: SYMBOL.size // 2]  # 0 is SHN_UNDEF
        values = array("Q", self._symbols)[1 :: SYMBOL.size // 8]
        return dict(compress(zip(names[::-1], values[::-1]), sections[::-1]))

    def read(self, vaddr: int, size: int) -> bytes:
        """Return up to ``size`` bytes of initialised data at link-time ``vaddr``.

        :raises P2mError: the file has no data for that address.
        """
        for start, length, offset in self._loads:
            if start <= vaddr < start + length:
                at = offset + vaddr - start
                return self._file.read_at(at, min(size, start + length - vaddr))
        raise P2mError(f"{self.path}: has no data for address {vaddr:x} (debug symbols only?)")

    @property
    def build_id(self) -> bytes | None:
        """The build ID that the linker gave the kernel, the same in all its files; or None."""
        for name in (".notes", ".note.gnu.build-id"):
            section = self.section(name)
            notes = (
                b""
                if section is None
                else self._file.read_at(section.offset, min(section.size, 1 << 16))
            )
            while len(notes) >= 12:
                owner, size, kind = struct.unpack_from("<III", notes)
                data = 12 + (owner + 3) // 4 * 4
                if kind == NT_GNU_BUILD_ID and notes[12:16] == b"GNU\0":
                    return notes[data : data + size]
                notes = notes[data + (size + 3) // 4 * 4 :]
        return None

    @property
    def debuglink(self) -> tuple[str, int] | None:
        """The name of the file with the debug information, and the CRC-32 of that; or None."""
        section = self.section(".gnu_debuglink")
        data = (
            b"" if section is None else self._file.read_at(section.offset, min(section.size, 4096))
        )
        name, found, _ = data.partition(b"\0")
        at = (len(name) + 4) // 4 * 4
        if not found or not name or len(data) < at + 4:
            return None
        return os.fsdecode(name), int.from_bytes(data[at : at + 4], "little")

    @property
    def has_debug(self) -> bool:
        """True if the file has debug information, packed or not."""
        return self._debug is not None

    @property
    def _debug(self) -> Section | None:
        return self.section(".debug_info") or self.section(".zdebug_info")

    @property
    def refused_debug(self) -> str | None:
        """What crash cannot read of the debug information; None if it can read it.

        gdb reads a section that has relocations as it is in the file, so that one which is
        compressed as well gives "wrong version in compilation unit header"; and the gdb in
        crash is built without zstd.  Seen in crash 8.0.2, 8.0.6 and 9.0.2.
        """
        debug = self._debug
        if debug is None:
            return None
        packed = debug.flags & SHF_COMPRESSED or debug.name == ".zdebug_info"
        if packed and self.section(f".rela{debug.name}"):
            return "compressed debug sections with relocations"
        kind = self._file.read_at(debug.offset, 4)
        if debug.flags & SHF_COMPRESSED and int.from_bytes(kind, "little") == ZSTD:
            return "debug sections compressed by zstd"
        return None


def _unreadable(path: str | Path, why: str) -> P2mError:
    return P2mError(f"{path}: not a readable ELF file ({why})")


def _string(table: bytes, offset: int) -> str:
    return table[offset : offset + 64].split(b"\0")[0].decode("latin-1")
