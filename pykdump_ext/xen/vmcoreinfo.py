# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the VMCOREINFO_XEN note: addresses, sizes and offsets of Xen's own data.

Xen writes it in ``xen/common/kexec.c`` and ``arch_crash_save_vmcoreinfo()`` since Xen
commit 65ce603cc1 ("extract vmcoreinfo from /proc/vmcore for Xen"), in 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import P2mError
from ..machine.notes import Note

__all__ = ["XEN_VMCOREINFO", "Vmcoreinfo", "read_vmcoreinfo"]

LARGEST_VMCOREINFO = 1 << 16  # bytes; Xen's VMCOREINFO_BYTES is 4096, xen/include/xen/kexec.h
XEN_VMCOREINFO = "VMCOREINFO_XEN"  # xen/include/public/kexec.h, VMCOREINFO_NOTE_NAME


class Vmcoreinfo:
    """The text of a VMCOREINFO note: ``SYMBOL(name)=hex``, ``SIZE(name)=n``, ``OFFSET(a.b)=n``."""

    def __init__(self, text: str) -> None:
        self._values = dict(re.findall(r"^([A-Z]+\([\w.]+\))=(\w{1,20})$", text, re.MULTILINE))

    def number(self, name: str, base: int = 10) -> int:
        """Return the value of ``name``.

        :raises P2mError: the note has no such value.
        """
        try:
            return int(self._values[name], base)
        except (KeyError, ValueError):
            raise P2mError(f"the dump's {XEN_VMCOREINFO} note has no {name}") from None

    def symbol(self, name: str) -> int:
        """Return the virtual address of a symbol of Xen.

        :raises P2mError: the note has no such symbol.
        """
        return self.number(f"SYMBOL({name})", 16)


def read_vmcoreinfo(notes: Iterable[Note]) -> Vmcoreinfo:
    """Return the values in a dump's VMCOREINFO_XEN note.

    :raises P2mError: the dump has no such note.
    """
    for note in notes:
        if note.owner == XEN_VMCOREINFO:
            return Vmcoreinfo(note.data[:LARGEST_VMCOREINFO].decode("latin-1"))
    raise P2mError(f"the dump has no {XEN_VMCOREINFO} note, so its domains cannot be found")
