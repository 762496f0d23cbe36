# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's symbols, from a file that belongs to the Xen of a dump."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import P2mError
from ..linux.packed import open_plain
from ..linux.vmlinux import VmlinuxFile
from .vmcoreinfo import Vmcoreinfo

__all__ = ["XenSymbols"]

LARGEST_MAP = 16 << 20  # bytes; that of Xen 4.17 has half a MiB
# A line of xen/tools/symbols.c ("--xensyms") or of nm; a static symbol has its file before it
LINE = rb"^(?:0x)?([0-9a-f]{1,16}) [A-Za-z] (?:[^ \n]*#)?%s$"
PROOF = ("domain_list", "max_page")  # in every VMCOREINFO_XEN note, by the same name


class XenSymbols:
    """The symbols of a Xen: ``xen-syms``, an ELF file, or the map that is built beside it.

    They are installed as ``xen-syms-VERSION`` and ``xen-VERSION.map``. Their addresses are
    those in the dump: Xen's virtual addresses are fixed.

    :param vmcoreinfo: the values of the dump's VMCOREINFO_XEN note.
    :raises P2mError: the file cannot be read, has no symbols, or is of another Xen.
    """

    def __init__(self, path: str | Path, vmcoreinfo: Vmcoreinfo) -> None:
        self.path = Path(path)
        self._map = b""
        self._elf: VmlinuxFile | None = None
        file, _ = open_plain(self.path)
        if file.read_at(0, 4) == b"\x7fELF":
            self._elf = VmlinuxFile(path)
        else:
            self._map = file.read_at(0, LARGEST_MAP)
        for name in PROOF:
            if self._find(name) != vmcoreinfo.symbol(name):
                raise P2mError(
                    f"{path}: is not the xen-syms or the map of this dump's Xen: its {name} is not"
                    " where the dump has it; give the file of the same build"
                )

    def _find(self, name: str) -> int | None:
        if self._elf is not None:
            return self._elf.address(name)
        found = re.search(LINE % re.escape(name.encode()), self._map, re.MULTILINE)
        return int(found[1], 16) if found else None

    def address(self, name: str) -> int:
        """Return the address of a symbol.

        :raises P2mError: the file has no such symbol.
        """
        found = self._find(name)
        if found is None:
            raise P2mError(f"{self.path}: has no symbol {name}: give the xen-syms of this build")
        return found
