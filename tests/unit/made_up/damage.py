# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and files that are damaged as some bytes tell; for properties and for fuzzing.

Every eight bytes are one stroke: which frame, which of its words, what to make
of it.  The words are such as turn up where they should not be.  In a file a stroke
changes bytes, or cuts the file off.
"""

from __future__ import annotations

import io
import struct
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from random import Random

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.compression import ZLIB
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.coverage import survey
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose, diagnose_without_namelist
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.reports.views import VIEWS, Screen, show
from tests.lab.kdump import RAW, flattened, kdump

from .copies import notes_of, segments_of
from .core import core_bytes
from .dump import MadeUpNamelist
from .guest import Guest, Planted, guest_with
from .machine import (
    DIRECT_MAP,
    FLAGS,
    FOREIGN_BIT,
    IDENTITY_BIT,
    KERNEL_DATA,
    LARGE,
    LAYOUTS,
    NOTHING,
    P2M_AREA,
    PAGE,
    WORDS,
)
from .p2m import P2m, random_cells
from .talkative import SHARED_INFO, tell

STROKE = struct.Struct("<BBHI")  # what, frame, word, value
TALKATIVE = "talkative"
KINDS_OF_GUESTS = (*LAYOUTS, TALKATIVE)
"""Each layout, and a guest with a linear p2m whose shared_info says where it is."""
WITH_IDENTITY = ("three-level", "linear", TALKATIVE)
PARTS = ("list", "leaves", "directories", "tables", "variables", "everything")


def small_guest(layout: str, seed: int, leaves: int = 700) -> tuple[Guest, Planted]:
    """Return a guest with a few leaves; its list is whole or ends early, as ``seed`` has it."""
    guest, planted = _small_guest(layout, seed, leaves)
    return guest.copy(), planted


@cache
def _small_guest(layout: str, seed: int, leaves: int) -> tuple[Guest, Planted]:
    random = Random(seed)
    total = 4 if layout == "flat" else leaves
    numbers = range(4) if layout == "flat" else (0, 1, min(511, leaves // 2), leaves - 1)
    own = {i: random_cells(random) for i in numbers}
    own[0][0] = (Kind.MEMORY, random.randrange(2**20, 2**30))
    identity = {2, leaves - 100 if leaves > 600 else 5}
    p2m = P2m(total * 512 - 5, own, frozenset(identity if layout in WITH_IDENTITY else ()))
    published = random.choice([None, 1])
    if layout != TALKATIVE:
        return guest_with(layout, p2m, published)
    guest, planted = guest_with("linear", p2m, published)
    tell(guest, p2m)
    return guest, planted


def frames_of(guest: Guest, planted: Planted, part: str) -> list[int]:
    """Return the mfns of one of ``PARTS``; page tables where the layout has no such part."""
    pages = guest.machine.pages
    found = {
        "list": [guest.list_mfn, *(guest.machine.get(guest.list_mfn, i) for i in range(3))],
        "leaves": list(planted.leaves.values()),
        "directories": planted.frames,
        "tables": guest.space.tables,
        "variables": [
            (guest.space.maddr(v) or 0) // PAGE for v in (*guest.symbols.values(), SHARED_INFO)
        ],
        "everything": list(pages),
    }[part]
    return [mfn for mfn in dict.fromkeys(found) if mfn in pages] or guest.space.tables


@dataclass(frozen=True)
class Target:
    """A guest, and which words of it are to be damaged: (mfn, indices of words) each."""

    guest: Guest
    words: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of(cls, guest: Guest, mfns: Iterable[int]) -> Target:
        """Take the words of these frames that are not zero, and one that is."""
        words = guest.machine.words
        return cls(
            guest,
            tuple(
                (mfn, (*(i for i, word in enumerate(words(mfn)) if word), WORDS - 2))
                for mfn in mfns
            ),
        )

    def damaged(self, strokes: bytes) -> PageMemory:
        """Return the guest's memory after these strokes; the guest stays as it is."""
        pages = {mfn: bytes(page) for mfn, page in self.guest.machine.pages.items()}
        every = list(pages)
        for what, frame, index, value in STROKE.iter_unpack(
            strokes[: len(strokes) // STROKE.size * STROKE.size]
        ):
            mfn, indices = self.words[frame % len(self.words)]
            page = pages.get(mfn)
            if page is None:
                continue
            at = indices[index % len(indices)] * 8
            old = int.from_bytes(page[at : at + 8], "little")
            new = _word(what, value, old, every)
            if new is None:
                del pages[mfn]
            else:
                pages[mfn] = page[:at] + new.to_bytes(8, "little") + page[at + 8 :]
        return PageMemory(pages)


def _word(what: int, value: int, old: int, frames: list[int]) -> int | None:
    """Return what becomes of the word ``old``; None: its whole frame is not in the dump."""
    frame = frames[value % len(frames)]
    if what % 16 == 15:
        return None
    new = [
        value,
        value << 32 | value,
        value % 2**16,
        NOTHING,
        0,
        frame,
        frame * PAGE | FLAGS,
        frame * PAGE | FLAGS | LARGE,
        frame | FOREIGN_BIT,
        frame | IDENTITY_BIT,
        old ^ 1 << value % 64,
        old + value - 2**31,
        KERNEL_DATA + value % 2**20 * PAGE,
        P2M_AREA + value % 2**22,
        1 << value % 64,
    ][what % 16]
    return new % 2**64


def struck(content: bytes, strokes: bytes, head: int) -> bytes:
    """Return what becomes of a file; every other stroke hits its first ``head`` bytes."""
    file = bytearray(content)
    for number, (what, size, place, value) in enumerate(
        STROKE.iter_unpack(strokes[: len(strokes) // STROKE.size * STROKE.size])
    ):
        at = (place << 16 | value >> 16) % (head if number % 2 == 0 else len(file))
        if what % 32 == 31 and at:
            del file[at:]
            head = min(head, at)
        elif what % 2:
            file[at] ^= 1 << value % 8
        else:
            length = 1 << size % 4
            new = (value << 32 | value).to_bytes(8, "little")[:length]
            file[at : at + length] = new[: len(file) - at]
    return bytes(file)


FORMATS = ("elf", "kdump", "flattened")


@cache
def file_of(kind: str, seed: int, form: str) -> tuple[Guest, bytes, int]:
    """Return a small guest, its dump in one of ``FORMATS``, and how long the headers are."""
    guest, _ = small_guest(kind, seed)
    pages = {mfn: bytes(page) for mfn, page in guest.machine.pages.items()}
    if form == "elf":
        content = core_bytes(segments_of(guest))
        return guest, content, len(content) - len(pages) * PAGE
    content = kdump(pages, method=ZLIB if form == "kdump" else RAW, notes=notes_of(guest))
    if form == "kdump":
        return guest, content, 2 * PAGE
    return guest, flattened(content, 8 * PAGE), 3 * PAGE


PFNS = (0, 1, 512, 1024, 2555, 700 * 512 - 6, 2**40)
MFNS = (0, 0x123, 0x1000, NOTHING)
ADDRESSES = (
    "linux_banner", "nothing",
    *(f"{vaddr:x}" for vaddr in (0, KERNEL_DATA, P2M_AREA + 8, DIRECT_MAP, SHARED_INFO, NOTHING)),
)  # fmt: skip


@cache
def _commands() -> list[tuple[str, Namespace]]:
    """Return every view with arguments of all kinds, as text and as JSON."""
    arguments = {
        "pfn": [f"{pfn:x}" for pfn in PFNS],
        "mfn": [f"{mfn:x}" for mfn in MFNS],
        "va": ADDRESSES,
    }
    found = []
    for view in VIEWS.values():
        parser = ArgumentParser()
        view.fill(parser)
        for words in [[word] for word in arguments.get(view.name, ())] or [[]]:
            found += [(view.name, parser.parse_args([*words, *json])) for json in ([], ["--json"])]
    return found


def look_at_views(found: Diagnosis) -> None:
    """Show every view of a p2m, as text and as JSON; any output is right, or a P2mError."""
    for name, args in _commands():
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                show(VIEWS[name], found, args, Screen())
            assert printed.getvalue()
        except P2mError as error:
            assert str(error)


def _looked(find: Callable[[], Diagnosis]) -> Diagnosis | None:
    """Show every view of a diagnosis and return it; None: there is a P2mError instead."""
    try:
        found = find()
    except P2mError as error:
        assert str(error)
        return None
    look_at_views(found)
    return found


def look_at_everything(guest: Guest, memory: PageMemory) -> None:
    """Do all there is to do with a dump; any answer is right, or a P2mError."""
    hints = guest.hints()
    _looked(lambda: diagnose_without_namelist(memory, hints))
    diagnosis = _looked(lambda: diagnose(memory, guest.symbols, guest.banner, hints))
    if diagnosis is None:
        return
    try:
        for pfn in PFNS:
            diagnosis.kind(pfn)
            diagnosis.entry(diagnosis.published, pfn)
        list(diagnosis.pfns_of(0x123))
        _, again = survey(diagnosis.kernel, diagnosis.table, diagnosis.rebuilt)
        assert again.covered <= again.memory
        assert diagnosis.coverage.covered <= diagnosis.coverage.memory
    except P2mError as error:
        assert str(error)


def look_at_file(guest: Guest, path: str) -> None:
    """Open a file as the dump of a guest, with its namelist and without, and show every view."""
    try:
        dump = open_dump([path])
    except P2mError as error:
        assert str(error)
        return
    for namelists in ([], [MadeUpNamelist.of(guest)]):
        opened = OpenedDump(dump, namelists, [path])
        _looked(lambda: opened.diagnosis)  # noqa: B023
