# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up machine's memory as a dump, and a made-up kernel's namelist."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note

from .guest import Guest
from .machine import SymbolTable


@dataclass
class MadeUpDump:
    """A made-up machine's memory with notes, as a dump has them."""

    memory: PageMemory
    notes: list[Note]
    format: str = "made up"
    incomplete: str | None = None

    def read(self, maddr: int, size: int, what: str) -> bytes:
        return self.memory.read(maddr, size, what)


@dataclass
class CountingDump(MadeUpDump):
    """A dump that remembers what was read of it: (machine address, bytes, what)."""

    reads: list[tuple[int, int, str]] = field(default_factory=list)

    def read(self, maddr: int, size: int, what: str) -> bytes:
        self.reads.append((maddr, size, what))
        return super().read(maddr, size, what)


class MadeUpNamelist:
    """A kernel's namelist; without a banner it is that of something else."""

    def __init__(self, symbols: SymbolTable, banner: bytes, path: str = "vmlinux") -> None:
        self.symbols = symbols
        self.text = banner
        self.path = Path(path)

    @classmethod
    def of(cls, guest: Guest, path: str = "vmlinux") -> MadeUpNamelist:
        return cls(guest.symbols, guest.banner, path)

    def address(self, name: str) -> int | None:
        return self.symbols.address(name)

    def banner(self) -> bytes:
        if not self.text:
            raise P2mError(f"{self.path}: not a Linux kernel")
        return self.text
