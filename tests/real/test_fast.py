# SPDX-License-Identifier: GPL-3.0-or-later
"""Fast reads and walks answer what crash's own functions answer, failures included."""

from __future__ import annotations

import re
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from drgn.helpers.linux.pid import for_each_task

from pykdump_ext.drgn.prog import program
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import ADDRESS_MASK, ENTRIES, LEVEL_SHIFTS, PTE_LEVEL, PageTables
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.p2m.entries import Kind, kind_of
from pykdump_ext.p2m.verify import MACH2PHYS_VIRT_START
from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump
from tests.lab.planted import planted

from .conftest import Packed
from .outputs import printed, to_files
from .sessions import BIN, Crash, Ran, Terminal, misses_tasks

JUMPED = 2  # what answers.c says where crash's function did not return
KVTOP, UVTOP, PHYSICAL, MACHINE = range(4)
SOURCE = Path(__file__).with_name("answers.c")
ANSWER = struct.Struct("<qQ")
XEN_SLOTS = range(256, 272)  # of a top page table: Xen's own, and not the kernel's
USER_SLOTS, KERNEL_SLOTS = range(256), range(272, ENTRIES)
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


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension that asks."""
    built = tmp_path_factory.mktemp("answers") / "answers.so"
    flags = ["-shared", "-fPIC", "-w", "-DX86_64", "-I/usr/include/crash"]
    subprocess.run(["gcc", *flags, SOURCE, "-o", built], check=True)
    return built


@pytest.fixture(scope="session")
def users(untouched: Dump) -> list[Task]:
    """The user processes of the untouched dump."""
    found, prog = diagnosis(untouched), program(untouched.vmcore, untouched.vmlinux)
    tops = {
        task.mm.pgd.value_(): task.value_() for task in for_each_task(prog) if task.mm
    }  # fmt: skip
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


def write(crash: Crash, asked: Iterable[Question]) -> None:
    """Write questions where a session finds them."""
    (crash.folder / "asked").write_bytes(b"".join(struct.pack("<QQQQ", *q) for q in asked))


def ask(crash: Crash, words: list[str | Path], extension: Path, asked: Iterable[Question]) -> Asked:
    """Ask a session of ``words``, first with fast reads and walks and then without."""
    write(crash, asked)
    commands = [
        f"extend {extension}", "answers asked fast", "p2m fast",
        "p2m fast off", "answers asked crashs", "p2m fast", "quit",
    ]  # fmt: skip
    ran = crash.run(words, commands)
    assert ran.status == 0, ran.text
    assert ran.text.count("fast reads: off") == 2, ran.text
    fast, crashs = (
        list(ANSWER.iter_unpack((crash.folder / name).read_bytes())) for name in ("fast", "crashs")
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


@pytest.fixture(scope="session")
def asked(untouched: Dump, users: list[Task]) -> list[Question]:
    """Questions on the main dump, and on all that have its memory."""
    made = questions(diagnosis(untouched), users, Random(1), 4000)
    assert len(made) > 30_000
    return made


def opens(dump: Dump) -> list[str | Path]:
    return [BIN / "p2mfix", dump.vmlinux, dump.vmcore, "-s"]


def test_a_repaired_session_translates_and_reads_as_crash_does(
    crash: Crash, truncated: Dump, answers: Path, asked: list[Question]
) -> None:
    told = ask(crash, opens(truncated), answers, asked)
    assert_equal(asked, told)
    kinds = {(question.kind, returned) for question, (returned, _) in zip(asked, told.crashs)}
    assert kinds >= {(kind, returned) for kind in range(4) for returned in (0, 1)}
    jumps = sum(returned == JUMPED for returned, _ in told.crashs)
    fast, left = told.walks()
    assert fast > 10_000 and left <= jumps, (fast, left, jumps)


def test_a_compressed_dump_without_xens_table_translates_and_reads_as_crash_does(
    crash: Crash, untouched: Dump, packed: Packed, answers: Path, asked: list[Question]
) -> None:
    some = asked[::8]  # crash's own search for a frame that no pfn has unpacks every leaf
    told = ask(crash, opens(packed(untouched, "-c")), answers, some)
    assert_equal(some, told)
    assert told.walks()[0] > 1000


def test_a_kernel_with_three_levels_translates_and_reads_as_crash_does(
    crash: Crash, untouched: Dump, answers: Path, asked: list[Question]
) -> None:
    told = ask(crash, opens(planted(untouched, "three-level")[1]), answers, asked)
    assert_equal(asked, told)
    assert told.walks()[0] > 10_000


@pytest.fixture
def damaged(untouched: Dump, tmp_path: Path) -> Iterator[Dump]:
    """The main dump with damage where translations read: tables, p2m, Xen's table."""
    found, random = diagnosis(untouched), Random(2)
    copy = copy_of(untouched, tmp_path)
    file, kernel = DumpFile(copy), found.kernel
    leaves = [mfn for mfn in found.table.leaves if not found.table.shared(mfn)]
    for _ in range(400):  # entries of the p2m; no two with one mfn, or any answer would be right
        maddr = (random.choice(leaves) << PAGE_SHIFT) + random.randrange(ENTRIES) * 8
        old = int.from_bytes(kernel.memory.read(maddr, 8, "p2m entry"), "little")
        new = random.choice((2**64 - 1, old | 1 << 63, old | 1 << 62, 0x7FFFFFFF00000 + old))
        file.write(maddr, (new & 2**64 - 1).to_bytes(8, "little"))
    for _ in range(400):  # entries of tables, at every level but the top
        slot = random.choice([*KERNEL_SLOTS])
        vaddr = 0xFFFF << 48 | slot << 39 | random.getrandbits(39)
        steps = list(kernel.tables.walk(vaddr))[1:]
        if steps and slot != found_slot(found):
            step = random.choice(steps)
            new = random.choice((0, 2**64 - 1, random.getrandbits(64), step.entry ^ 1 << 12))
            file.write(step.entry_maddr, new.to_bytes(8, "little"))
    for _ in range(2000):  # entries of Xen's table
        pfn = random.randrange(found.table.max_pfn)
        mfn = found.entry(found.rebuilt, pfn) or 0
        if kind_of(mfn) is not Kind.MEMORY:
            continue
        maddr = kernel.tables.translate(MACH2PHYS_VIRT_START + mfn * 8)
        file.write(maddr, random.getrandbits(20).to_bytes(8, "little"))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


def test_a_damaged_dump_translates_and_reads_as_crash_does(
    crash: Crash, damaged: Dump, answers: Path, asked: list[Question]
) -> None:
    some = asked[::5]
    told = ask(crash, opens(damaged), answers, some)
    assert_equal(some, told)
    assert told.walks()[0] > 1000


def test_zero_excluded_takes_effect_at_once(
    crash: Crash, untouched: Dump, packed: Packed, answers: Path, asked: list[Question]
) -> None:
    some = [question for question in asked if question.kind in (PHYSICAL, MACHINE)][::20]
    write(crash, some)
    steps = [
        (switch, zeros) for switch in ("on", "off") for zeros in ("off", "on", "off")
    ]  # fmt: skip
    commands = [f"extend {answers}"]
    for switch, zeros in steps:
        commands += [f"p2m fast {switch}"] if zeros == "off" else []
        commands += [f"set zero_excluded {zeros}", f"answers asked {switch}-{len(commands)}"]
    ran = crash.run(opens(packed(untouched, "-c")), [*commands, "quit"])
    assert ran.status == 0, ran.text
    told = [
        list(ANSWER.iter_unpack((crash.folder / line.split()[2]).read_bytes()))
        for line in commands
        if line.startswith("answers")
    ]
    assert told[0] == told[2] == told[3] == told[5]
    assert told[1] == told[4] != told[0]
    assert {returned for returned, _ in told[0]} == {0, 1}


def test_fast_reads_are_shown_turned_off_and_on_and_bounded(
    crash: Crash, truncated: Dump, answers: Path, asked: list[Question]
) -> None:
    write(crash, asked[::10])
    commands = (
        "p2m fast", "p2m status", "p2m fast off", "p2m fast on --keep 1", "answers asked told",
        "p2m fast",
        "p2m undo", "p2m fast", "p2m fast on", "p2m undo",
    )  # fmt: skip
    wrong = ("p2m fast on --keep 0", "p2m fast on --keep 2000000", "p2m undo")
    said = to_files(commands, crash.folder / "said")
    ran = crash.run(opens(truncated), [f"extend {answers}", *said, *wrong, "quit"])
    first, status, off, small, _, used, undone, still, on, last = printed(crash.folder / "said")
    assert re.fullmatch(
        r"fast reads: on, [\d.]+ of 64 MiB of pages kept, [\d,]+ hits, [\d,]+ misses;"
        r" [\d,]+ walks, [\d,]+ left to crash\n",
        first,
    )
    assert re.search(r"(?m)^    fast reads: on, .* of 64 MiB of pages kept, ", status)
    assert off == still == "fast reads: off\n"
    assert small.startswith("fast reads: on, 0.0 of 1 MiB of pages kept, 0 hits, 0 misses; 0 walks")
    kept = re.match(r"fast reads: on, ([\d.]+) of 1 MiB of pages kept", used)
    assert kept and 0.8 < float(kept[1]) <= 1
    assert (undone, last) == ("", "")  # the session is silent
    assert on.startswith("fast reads: on, ")
    assert ran.text.endswith(
        "p2m: --keep takes 1 to 1,048,576 MiB, not 0\n"
        "p2m: --keep takes 1 to 1,048,576 MiB, not 2,000,000\n"
        "p2m: nothing to undo: crash reads by the dump's list\n"
    )


def test_plain_leaves_crash_as_it_is(crash: Crash, untouched: Dump, truncated: Dump) -> None:
    healthy = crash.run([*opens(untouched), "--plain"], ["p2m fast", "quit"])
    if not misses_tasks():
        assert "command not found: p2m" in healthy.text
    broken = crash.run([*opens(truncated), "--plain"], ["p2m fast", "quit"])
    assert (broken.text, broken.status) == ("fast reads: off\n", 0)


def test_a_full_session_on_a_healthy_dump_becomes_fast_and_slow_again(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    state = 'py -c "from pykdump_ext.host.fast import fast_is_on; print(fast_is_on())"'
    commands = [
        f"extend {host}", state, "extend p2mfix.py", state, "kmem -s > fast",
        "extend -u p2mfix.py", state, "kmem -s > slow",
    ]  # fmt: skip
    ran = crash(untouched, commands, "-s")
    assert re.findall("(?m)^(True|False)$", ran.text) == ["False", "True", "False"], ran.text
    fast, slow = ((crash.folder / name).read_text() for name in ("fast", "slow"))
    assert fast == slow != ""


def test_after_ctrl_c_in_a_walk_the_next_one_is_right(crash: Crash, truncated: Dump) -> None:
    terminal = Terminal(crash, [str(word) for word in opens(truncated)])
    terminal.until()
    whole = terminal.line("kmem -v")
    for seconds in (0.05, 0.2, 0.5):
        terminal.child.sendline("search -k 123456789abcdef1")
        time.sleep(seconds)
        terminal.interrupt()
        terminal.until()
        assert terminal.line("kmem -v") == whole
    assert "vm_struct" in whole.lower()
    terminal.child.sendline("quit")
    terminal.child.wait()
