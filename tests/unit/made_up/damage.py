# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are damaged as some bytes tell; for properties and for fuzzing.

Every eight bytes are one stroke: which frame, which of its words, what to make
of it.  The words are such as turn up where they should not be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from random import Random

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.p2m.coverage import survey
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.p2m.entries import Kind

from .guest import Guest, Planted, guest_with
from .machine import (
    FLAGS,
    FOREIGN_BIT,
    IDENTITY_BIT,
    KERNEL_DATA,
    LARGE,
    NOTHING,
    P2M_AREA,
    PAGE,
    WORDS,
)
from .p2m import P2m, random_cells

STROKE = struct.Struct("<BBHI")  # what, frame, word, value
WITH_IDENTITY = ("three-level", "linear")
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
    return guest_with(
        layout,
        P2m(total * 512 - 5, own, frozenset(identity if layout in WITH_IDENTITY else ())),
        random.choice([None, 1]),
    )


def frames_of(guest: Guest, planted: Planted, part: str) -> list[int]:
    """Return the mfns of one of ``PARTS``; page tables where the layout has no such part."""
    pages = guest.machine.pages
    found = {
        "list": [guest.list_mfn, *(guest.machine.get(guest.list_mfn, i) for i in range(3))],
        "leaves": list(planted.leaves.values()),
        "directories": planted.frames,
        "tables": guest.space.tables,
        "variables": [(guest.space.maddr(v) or 0) // PAGE for v in guest.symbols.values()],
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


def look_at_everything(guest: Guest, memory: PageMemory) -> None:
    """Do all there is to do with a dump; any answer is right, or a P2mError."""
    try:
        diagnosis = diagnose(memory, guest.symbols, guest.banner, guest.hints())
        for pfn in (0, 1, 512, 1024, 2555, 700 * 512 - 6, 2**40):
            diagnosis.kind(pfn)
            diagnosis.entry(diagnosis.published, pfn)
        list(diagnosis.pfns_of(0x123))
        _, again = survey(diagnosis.kernel, diagnosis.table, diagnosis.rebuilt)
        assert again.covered <= again.memory
        assert diagnosis.coverage.covered <= diagnosis.coverage.memory
    except P2mError as error:
        assert str(error)
