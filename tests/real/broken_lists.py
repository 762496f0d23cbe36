# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which the dump's list may be broken: functions that break it in a copy."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.p2m.diagnosis import Diagnosis
from tests.lab.broken import DumpFile, free_pages, with_list_mfn
from tests.lab.planted import words

Damage = Callable[[DumpFile, Diagnosis], None]
COMMANDS = ("sys", "bt", "ps", "mod", "kmem -i", "p runqueues:1", "bt -a")
"""What is compared with the untouched dump."""
WORD = 8
LOW_MEMORY = 600 << 20  # bytes that the lab's machine has below 4 GiB


def list_pages(found: Diagnosis) -> list[int]:
    """The mfns of the list: of its first page, then of the pages that names."""
    top = found.hints.frame_list_mfn
    page = found.kernel.memory.read(top * PAGE_SIZE, PAGE_SIZE, "list of lists")
    return [top, *(int.from_bytes(page[at : at + WORD], "little") for at in range(0, 4096, WORD))]


def is_in_the_dump(found: Diagnosis, mfn: int) -> bool:
    try:
        return bool(found.kernel.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "a page"))
    except ReadError:
        return False


def frames_of_others(found: Diagnosis, count: int) -> int:
    """Return the first of so many frames of the dump, in a row, none of which is dom0's."""
    memory, own = found.kernel.memory, set[int]()
    for _, leaf in found.table.own_leaves():
        own.update(array("Q", memory.read(leaf << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")))
    run = 0
    for mfn in range((LOW_MEMORY >> PAGE_SHIFT) - 1, 0, -1):
        run = run + 1 if mfn not in own and is_in_the_dump(found, mfn) else 0
        if run == count:
            return mfn
    raise RuntimeError(f"dom0 has a part of any {count} frames")


def absent(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(with_list_mfn(0))


def invalid(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(with_list_mfn(0xFFFFFFFFFFFFFFFF))


def outside_the_dump(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(with_list_mfn(0x7777777))


def a_page_that_is_no_list(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(
        with_list_mfn(found.kernel.mfn_at(found.kernel.address("linux_banner"), "text"))
    )


def page_overwritten(file: DumpFile, found: Diagnosis) -> None:
    file.write(list_pages(found)[1] * PAGE_SIZE, bytes(range(256)) * 16)


def zero_entries_in_the_middle(file: DumpFile, found: Diagnosis) -> None:
    file.write(list_pages(found)[1] * PAGE_SIZE + 64 * WORD, bytes(16 * WORD))


def stale(file: DumpFile, found: Diagnosis) -> None:
    """Leaf after leaf names the one before it."""
    page = list_pages(found)[1] * PAGE_SIZE
    old = found.kernel.memory.read(page, PAGE_SIZE - WORD, "list")
    file.write(page + WORD, old)


def in_a_circle(file: DumpFile, found: Diagnosis) -> None:
    top = list_pages(found)[0]
    file.write(top * PAGE_SIZE, top.to_bytes(WORD, "little") * 512)


def truncated_inside_a_page(file: DumpFile, found: Diagnosis) -> None:
    missing = found.table.missing_mfn.to_bytes(WORD, "little")
    file.write(list_pages(found)[1] * PAGE_SIZE + 33 * WORD, missing * (512 - 33))


def another_domains(file: DumpFile, found: Diagnosis) -> None:
    """A whole list of whole leaves, as another guest has one: of frames that are not dom0's."""
    pages = [found.entry(found.rebuilt, pfn) or 0 for pfn in free_pages(found, 4)]
    top, middle, *leaves = pages
    others = frames_of_others(found, 512 * len(leaves))
    file.write(top * PAGE_SIZE, words([middle] * 512))
    file.write(middle * PAGE_SIZE, words(leaves * 256))
    for number, leaf in enumerate(leaves):
        first = others + 512 * number
        file.write(leaf * PAGE_SIZE, words([*range(first, first + 512)]))
    file.edit_notes(with_list_mfn(top))


def a_page_behind_the_memory_is_zero(file: DumpFile, found: Diagnosis) -> None:
    """No leaf is lost: those of this page hold no memory."""
    file.write(list_pages(found)[2] * PAGE_SIZE, bytes(PAGE_SIZE))


def a_leaf_without_memory_is_outside_the_dump(file: DumpFile, found: Diagnosis) -> None:
    """No leaf is lost: this one holds no memory."""
    empty = next(i for i, mfn in enumerate(found.table.leaves) if found.table.shared(mfn))
    page = list_pages(found)[1 + empty // 512] * PAGE_SIZE
    file.write(page + empty % 512 * WORD, (0x7777777).to_bytes(WORD, "little"))


CASES: list[Damage] = [
    another_domains,
    absent, invalid, outside_the_dump, a_page_that_is_no_list, page_overwritten,
    zero_entries_in_the_middle, stale, in_a_circle, truncated_inside_a_page,
    a_page_behind_the_memory_is_zero, a_leaf_without_memory_is_outside_the_dump,
]  # fmt: skip
