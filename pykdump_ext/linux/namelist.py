# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's namelist (``vmlinux``): its banner, symbols and initialised data."""

from __future__ import annotations

import mmap
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ..errors import P2mError
from ..machine.files import OpenFile
from .kernel import START_KERNEL_MAP, KernelFile

__all__ = ["Namelist", "Relocated", "release_of"]

SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
LONGEST_BANNER = 512


class Namelist:
    """The symbols and the initialised data of an ELF namelist.

    A kernel has two hundred thousand symbols, and few are asked for. So there is no index:
    the string table is searched for the name, and the symbol table for the name's offset.

    :raises P2mError: the file is not an ELF file with symbols.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        OpenFile(self.path)  # refuses a pipe, which would wait for somebody who writes
        try:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                elf = ELFFile(file)
                symtab = elf.get_section_by_name(".symtab")
                strtab = elf.get_section_by_name(".strtab")
                if symtab is None or strtab is None:
                    raise P2mError(f"{path}: has no symbols")
                for section in (symtab, strtab):
                    end = section["sh_offset"] + section["sh_size"]
                    if end > len(self._map) or symtab["sh_size"] % SYMBOL.size:
                        raise P2mError(f"{path}: is cut off: some of its symbols are missing")
                self._symbols = bytes(symtab.data())
                self._names = bytes(strtab.data())
                # st_name of every symbol, one after another
                self._name_of = array("I", self._symbols)[:: SYMBOL.size // 4].tobytes()
                self._loads = [
                    (int(s["p_vaddr"]), int(s["p_filesz"]), int(s["p_offset"]))
                    for s in elf.iter_segments("PT_LOAD")
                ]
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
        except (ELFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise P2mError(f"{path}: not a readable ELF file ({error})") from None

    def address(self, name: str) -> int | None:
        """Return the link-time address of the symbol ``name``, or None."""
        wanted = name.encode() + b"\0"  # a linker may store it as the tail of a longer name
        found = self._names.find(wanted)
        while found >= 0:
            address = self._address_of_name(found)
            if address is not None:
                return address
            found = self._names.find(wanted, found + 1)
        return None

    def _address_of_name(self, name_offset: int) -> int | None:
        key = name_offset.to_bytes(4, "little")
        found = self._name_of.find(key)
        while found >= 0:
            if found % 4 == 0:
                at = found // 4 * SYMBOL.size
                _, _, _, section, value, _ = SYMBOL.unpack_from(self._symbols, at)
                if section:  # 0 is SHN_UNDEF
                    return int(value)
            found = self._name_of.find(key, found + 1)
        return None

    def read(self, vaddr: int, size: int) -> bytes:
        """Return up to ``size`` bytes of initialised data at link-time ``vaddr``.

        :raises P2mError: the file has no data for that address.
        """
        for start, length, offset in self._loads:
            if start <= vaddr < start + length:
                at = offset + vaddr - start
                return self._map[at : at + min(size, start + length - vaddr)]
        raise P2mError(f"{self.path}: has no data for address {vaddr:x} (debug symbols only?)")

    def banner(self) -> bytes:
        """Return ``linux_banner`` without its final zero byte.

        :raises P2mError: the file is not the namelist of a Linux kernel.
        """
        address = self.address("linux_banner")
        text = b"" if address is None else self.read(address, LONGEST_BANNER).split(b"\0")[0]
        if not text.startswith(b"Linux version "):
            raise P2mError(f"{self.path}: not a Linux kernel with its symbols")
        return text


@dataclass(frozen=True)
class Relocated:
    """The namelist of a kernel that ran ``by`` bytes above its link-time address.

    Addresses below the kernel's mapping, such as those of per-cpu variables, are offsets
    and stay as they are.
    """

    namelist: KernelFile
    by: int

    @property
    def path(self) -> Path:
        """The namelist's file."""
        return self.namelist.path

    def banner(self) -> bytes:
        """Return the namelist's banner; see :class:`~.kernel.KernelFile`."""
        return self.namelist.banner()

    def address(self, name: str) -> int | None:
        """Return the address of symbol ``name`` in the dump, or None."""
        address = self.namelist.address(name)
        if address is None or address < START_KERNEL_MAP:
            return address
        return (address + self.by) % (1 << 64)


def release_of(banner: bytes | str) -> str:
    """Return the release that a banner names, such as ``6.1.0-56-amd64``."""
    text = banner if isinstance(banner, str) else banner.decode("latin-1")
    return (text.split()[2:3] or ["unknown"])[0]
