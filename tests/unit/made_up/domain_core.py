# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of one domain, as ``xl dump-core`` writes them.

Written from docs/misc/dump-core-format.txt of Xen.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .core import EHDR, ET_CORE, IDENT_64_LITTLE, note

PAGE = 4096
SHDR = struct.Struct("<IIQQQQIIQQ")
SHT_PROGBITS, SHT_STRTAB, SHT_NOTE = 1, 3, 7
XC_CORE_MAGIC, XC_CORE_MAGIC_HVM = 0xF00FEBED, 0xF00FEBEE
NONE, HEADER, XEN_VERSION, FORMAT_VERSION = range(0x2000000, 0x2000004)
CONTEXT_SIZE = 5168  # bytes of vcpu_guest_context_t on x86-64
CR3_AT = 5008  # offset of ctrlreg[3] in it


def domain_core(pages: Mapping[int, tuple[int, bytes]], pv: bool = True, root: int = 0) -> bytes:
    """Return the dump of a domain, whose pages are given by pfn, each with its mfn.

    :param root: cr3 of its one vcpu.
    """
    order = sorted(pages)
    context = (bytes(CR3_AT) + struct.pack("<Q", root)).ljust(CONTEXT_SIZE, b"\0")
    header = struct.pack("<4Q", XC_CORE_MAGIC if pv else XC_CORE_MAGIC_HVM, 1, len(order), PAGE)
    version = struct.pack("<QQ", 4, 17).ljust(1296, b"\0")
    notes = b"".join((
        note(b"Xen", NONE, b""), note(b"Xen", HEADER, header), note(b"Xen", XEN_VERSION, version),
        note(b"Xen", FORMAT_VERSION, struct.pack("<Q", 1)),
    ))  # fmt: skip
    frames = [struct.pack("<QQ", pfn, pages[pfn][0]) if pv else struct.pack("<Q", pfn)
              for pfn in order]  # fmt: skip
    sections = [
        (".note.Xen", SHT_NOTE, notes),
        (".xen_prstatus", SHT_PROGBITS, context),
        (".xen_shared_info", SHT_PROGBITS, bytes(PAGE)),
        (".xen_p2m" if pv else ".xen_pfn", SHT_PROGBITS, b"".join(frames)),
        (".xen_pages", SHT_PROGBITS, b"".join(pages[pfn][1] for pfn in order)),
    ]
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in sections) + b".shstrtab\0"
    sections.append((".shstrtab", SHT_STRTAB, names))
    count = len(sections) + 1
    at = -(-(EHDR.size + SHDR.size * count) // PAGE) * PAGE
    table, contents = bytes(SHDR.size), b""
    for name, kind, content in sections:
        where = names.index(b"\0" + name.encode() + b"\0") + 1
        table += SHDR.pack(where, kind, 0, 0, at, len(content), 0, 0, 8, 0)
        padded = content + bytes(-len(content) % PAGE)
        contents += padded
        at += len(padded)
    head = EHDR.pack(
        IDENT_64_LITTLE, ET_CORE, 62, 1, 0, 0, EHDR.size, 0, EHDR.size, 0, 0, SHDR.size, count,
        count - 1,
    )  # fmt: skip
    return (head + table).ljust(at - len(contents), b"\0") + contents
