# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of made-up guests, to be copied with a whole list."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from pykdump_ext.machine.dumps import Dump
from pykdump_ext.machine.elf import PN_XNUM, SH_INFO, ElfCore
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO, XEN_ELFNOTE_CRASH_REGS
from tests.lab.kdump import kdump

from .core import EHDR, PHDR, PT_NOTE, Segment, core_bytes, note
from .guest import Guest, guest_with
from .machine import NOTHING, PAGE
from .p2m import P2M, P2m


def notes_of(guest: Guest, *more: bytes) -> bytes:
    info = struct.pack("<9Q", 4, 17, *range(6), guest.list_mfn) + b"odd"
    cr3 = struct.pack("<4Q", 0, 0, guest.root, 0)
    return b"".join((
        note(b"CORE", 1, b"registers"),
        note(b"Xen", XEN_ELFNOTE_CRASH_REGS, cr3),
        note(b"Xen", XEN_ELFNOTE_CRASH_INFO, info),
        *more,
    ))  # fmt: skip


def dump_of(guest: Guest, path: Path) -> Path:
    """Write a guest's machine as a compressed dump of a Xen host."""
    pages = {mfn: bytes(content) for mfn, content in guest.machine.pages.items()}
    path.write_bytes(kdump(pages, notes=notes_of(guest)))
    return path


def segments_of(guest: Guest, *more: bytes) -> list[Segment]:
    return [
        Segment(0, notes_of(guest, *more), PT_NOTE),
        *(Segment(mfn * PAGE, bytes(page)) for mfn, page in sorted(guest.machine.pages.items())),
    ]


def diagnosed(guest: Guest, core: Dump) -> Diagnosis:
    info = OpenedDump(core).hints
    return diagnose(core, guest.symbols, guest.banner, info)


class Broken(NamedTuple):
    """A dump whose list ends after its first leaf."""

    guest: Guest
    core: ElfCore
    found: Diagnosis


def broken_dump(
    folder: Path, p2m: P2m = P2M, layout: str = "linear", room: int = 200, *more: bytes
) -> Broken:
    guest, _ = guest_with(layout, p2m, 1)
    path = folder / "vmcore"
    path.write_bytes(core_bytes(segments_of(guest, *more), room=room))
    core = ElfCore(path)
    return Broken(guest, core, diagnosed(guest, core))


def list_by(core: ElfCore) -> dict[int, int]:
    """What crash makes of a list: leaves, in order, up to a zero among the list's pages."""
    info = OpenedDump(core).hints

    def words(mfn: int) -> tuple[int, ...]:
        return struct.unpack("<512Q", core.read(mfn * PAGE, PAGE, "list"))

    leaves: list[int] = []
    for page in words(info.frame_list_mfn):
        assert page
        leaves += words(page)
    assert all(leaves) and len(leaves) == 512 * 512
    entries: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        if leaf != leaves[-1]:
            entries |= {number * 512 + i: entry for i, entry in enumerate(words(leaf))}
    assert words(leaves[-1]) == (NOTHING,) * 512
    return entries


def headers(path: Path) -> list[tuple[int, ...]]:
    content = path.read_bytes()
    header = EHDR.unpack_from(content)
    count = header[10]
    if count == PN_XNUM:
        count = struct.unpack_from("<I", content, header[6] + SH_INFO)[0]
    return [PHDR.unpack_from(content, header[5] + n * PHDR.size) for n in range(count)]
