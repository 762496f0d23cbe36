# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to crash's functions on a dump's addresses, asked with fast reads and without."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from drgn.helpers.linux.pid import for_each_task

from pykdump_ext.drgn.prog import program
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import ADDRESS_MASK, ENTRIES, LEVEL_SHIFTS, PTE_LEVEL, PageTables
from pykdump_ext.p2m.diagnosis import Diagnosis
from tests.lab.broken import diagnosis
from tests.lab.dump import Dump

from .sessions import Ran

SOURCE = Path(__file__).with_name("answers.c")
BUILD = ("-shared", "-fPIC", "-w", "-DX86_64", "-I/usr/include/crash")
"""What gcc builds the extension with."""
KVTOP, UVTOP, PHYSICAL, MACHINE = range(4)  # what answers.c asks
JUMPED = 2  # what it writes where crash's function did not return
ANSWER = struct.Struct("<qQ")
USER_SLOTS, KERNEL_SLOTS = range(256), range(272, ENTRIES)  # of a top table; Xen's are between
STATE = re.compile(r"on, .* ([\d,]+) walks, ([\d,]+) left to crash")


class Question(NamedTuple):
    """What :file:`answers.c` asks crash: ``struct question``."""

    kind: int
    task: int
    address: int
    size: int = 0


class Task(NamedTuple):
    """A user process: its ``struct task_struct``, and the machine address of its top table."""

    address: int
    top: int


def users_of(dump: Dump) -> list[Task]:
    """Return the user processes of a dump."""
    found, prog = diagnosis(dump), program(dump.vmcore, dump.vmlinux)
    tops = {task.mm.pgd.value_(): task.value_() for task in for_each_task(prog) if task.mm}
    return [Task(task, found.kernel.tables.translate(top)) for top, task in tops.items()]


def pages(tables: PageTables, slots: Iterable[int]) -> Iterator[tuple[int, bool]]:
    """Yield every page that a page table has an entry for, and whether the entry is present."""

    def below(
        maddr: int, level: int, vaddr: int, indexes: Iterable[int]
    ) -> Iterator[tuple[int, bool]]:
        table = tables.table(maddr, level)
        for index in indexes:
            entry, here = table[index], vaddr | index << LEVEL_SHIFTS[level]
            if level == PTE_LEVEL:
                yield here, bool(entry & 1)
            elif entry & 1 and not (level and entry & 0x80):
                yield from below(entry & ADDRESS_MASK, level + 1, here, range(ENTRIES))

    for vaddr, present in below(tables.root, 0, 0, slots):
        yield (vaddr | 0xFFFF << 48 if vaddr >> 47 else vaddr), present


def questions(found: Diagnosis, users: list[Task], random: Random, each: int) -> list[Question]:
    """Return questions on every page that page tables have an entry for, and on ``each`` others."""
    memory, tables = found.kernel.memory, found.kernel.tables
    assert isinstance(memory, ElfCore)
    asked = []

    def translate(kind: int, task: int, tables: PageTables, slots: Iterable[int]) -> None:
        last: list[int] = []
        for vaddr, present in pages(tables, slots):
            last.append(vaddr)
            if present or random.random() < 0.1:
                asked.append(Question(kind, task, vaddr | random.randrange(PAGE_SIZE)))
        for vaddr in random.choices(last, k=each):
            far = random.choice((0, 1 << 21, 1 << 30, 1 << 39)) * random.choice((1, -1))
            asked.append(Question(kind, task, vaddr + far & (1 << 64) - 1))

    # the direct map is crash's own, and large: some of it is enough
    translate(KVTOP, 0, tables, [slot for slot in KERNEL_SLOTS if slot != found_slot(found)])
    base, pfns = found.kernel.page_offset(), found.table.max_pfn
    asked += [Question(KVTOP, 0, base + random.randrange(pfns << PAGE_SHIFT)) for _ in range(each)]
    for task in users:
        translate(UVTOP, task.address, PageTables(memory, task.top), USER_SLOTS)
    for _ in range(each):
        size = random.choice((1, 8, 64, 2048, 2049, PAGE_SIZE, 3 * PAGE_SIZE))
        pfn = random.randrange(pfns + 600)
        asked.append(Question(PHYSICAL, 0, pfn << PAGE_SHIFT | random.randrange(PAGE_SIZE), size))
        start, end = random.choice(memory.segments())
        near = random.choice((start, end)) + random.randint(-PAGE_SIZE, PAGE_SIZE)
        for maddr in (near, random.randrange(start, end)):
            asked.append(Question(MACHINE, 0, max(maddr, 0), size))
    random.shuffle(asked)
    return asked


def found_slot(found: Diagnosis) -> int:
    """Return the slot of the direct map in a top page table."""
    return found.kernel.page_offset() >> LEVEL_SHIFTS[0] & ENTRIES - 1


class Asked(NamedTuple):
    """The answers of a session with fast reads and walks, and of the same session without."""

    fast: list[tuple[int, int]]
    crashs: list[tuple[int, int]]
    ran: Ran

    def walks(self) -> tuple[int, int]:
        """Return how many walks were made fast, and how many were left to crash."""
        state = STATE.search(self.ran.text)
        assert state, self.ran.text
        return int(state[1].replace(",", "")), int(state[2].replace(",", ""))


def write(folder: Path, asked: Iterable[Question]) -> None:
    """Write questions into the folder that a session runs in."""
    (folder / "asked").write_bytes(b"".join(struct.pack("<QQQQ", *q) for q in asked))


def ask(
    run: Callable[[list[str]], Ran], folder: Path, extension: Path, asked: Iterable[Question]
) -> Asked:
    """Ask a session, first with fast reads and walks and then without.

    :param run: runs the session with these commands.
    :param folder: one that the session sees.
    """
    write(folder, asked)
    ran = run(
        [f"extend {extension}", f"answers {folder}/asked {folder}/fast", "p2m fast",
         "p2m fast off", f"answers {folder}/asked {folder}/crashs", "p2m fast"]
    )  # fmt: skip
    assert ran.status == 0, ran.text
    assert ran.text.count("fast reads: off") == 2, ran.text
    fast, crashs = (
        list(ANSWER.iter_unpack((folder / name).read_bytes())) for name in ("fast", "crashs")
    )
    return Asked(fast, crashs, ran)


def assert_equal(asked: list[Question], told: Asked) -> None:
    """Fail with the questions that fast reads and walks answer otherwise than crash."""
    assert len(asked) == len(told.fast) == len(told.crashs) > 0
    wrong = [
        (question, fast, crashs)
        for question, fast, crashs in zip(asked, told.fast, told.crashs)
        if fast != crashs
    ]
    assert not wrong, (len(wrong), wrong[:10])
