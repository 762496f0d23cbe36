# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump damaged at random, many times: no hang, no traceback, no session that is dead.

Each number is a damage that can be made again: ``pytest tests/real/test_fuzz.py -k 17``.
``make test`` runs one of each place, ``make fuzz`` all.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.p2m.framelist import read_list
from pykdump_ext.xen.notes import read_crash_note
from tests.lab.broken import DumpFile, copy_of, diagnosis, with_cr3s, with_list_mfn
from tests.lab.dump import Dump

from .broken_lists import list_pages
from .sessions import BIN, Crash, Ran

CASES = 27
SECONDS = 90  # of the processor: a session that takes more of it hangs
WORD = 8
VARIABLES = (
    "max_pfn", "xen_p2m_addr", "xen_p2m_size", "p2m_missing", "p2m_identity",
    "page_offset_base", "linux_banner", "xen_start_info", "phys_base",
)  # fmt: skip
LOOK = ("p2m status", "p2m pfn 100", "p2m va linux_banner")
ALIVE = "hexadecimal: 10"  # what "eval 16" prints

Damage = Callable[[DumpFile, Diagnosis, Random], None]


def some_word(random: Random, old: bytes, mfns: Iterable[int]) -> bytes:
    """Return a word such as turn up where they should not be."""
    mfn = random.choice([*mfns])
    value = random.choice(
        [
            0,
            0xFFFFFFFFFFFFFFFF,
            random.getrandbits(64),
            random.getrandbits(20),
            mfn,
            mfn * PAGE_SIZE | 0x63,
            mfn * PAGE_SIZE | 0xE3,
            mfn | 1 << random.choice((62, 63)),
            int.from_bytes(old, "little") ^ 1 << random.randrange(64),
        ]
    )
    return value.to_bytes(WORD, "little")


def overwrite(file: DumpFile, found: Diagnosis, random: Random, maddrs: list[int]) -> None:
    """Overwrite a few of these words, or a page with one of them in it."""
    mfns = [*list_pages(found), *found.table.leaves]
    for maddr in random.choices(maddrs, k=random.randint(1, 12)):
        if random.random() < 0.1:
            page = maddr & ~(PAGE_SIZE - 1)
            file.write(page, random.choice([bytes(PAGE_SIZE), random.randbytes(PAGE_SIZE)]))
        else:
            old = found.kernel.memory.read(maddr, WORD, "word")
            file.write(maddr, some_word(random, old, mfns))


def words_of(maddr: int, count: int = PAGE_SIZE // WORD) -> list[int]:
    return [maddr + i * WORD for i in range(count)]


def own_leaves(found: Diagnosis) -> list[int]:
    return [mfn for mfn in found.table.leaves if not found.table.shared(mfn)]


def notes(file: DumpFile, found: Diagnosis, random: Random) -> None:
    def edit(old: bytes) -> bytes:
        new = bytearray(old)
        for at in random.choices(range(len(new)), k=random.randint(1, 40)):
            new[at] ^= random.randint(1, 255)
        return bytes(new) if new != old else old[:-1] + bytes([old[-1] ^ 1])

    file.edit_notes(edit)


def what_xen_says(file: DumpFile, found: Diagnosis, random: Random) -> None:
    mfns = [*list_pages(found), *found.table.leaves]
    word = int.from_bytes(some_word(random, bytes(WORD), mfns), "little")
    file.edit_notes(random.choice([with_list_mfn(word), with_cr3s(word)]))


def list_of_lists(file: DumpFile, found: Diagnosis, random: Random) -> None:
    overwrite(file, found, random, words_of(list_pages(found)[0] * PAGE_SIZE, 4))


def list_page(file: DumpFile, found: Diagnosis, random: Random) -> None:
    pages = random.choices(list_pages(found)[1:3], k=3)
    used = len(found.table.leaves)
    overwrite(
        file, found, random, [m for p in pages for m in words_of(p * PAGE_SIZE, min(used, 512))]
    )


def leaves(file: DumpFile, found: Diagnosis, random: Random) -> None:
    some = random.choices(own_leaves(found), k=4)
    overwrite(file, found, random, [m for mfn in some for m in words_of(mfn * PAGE_SIZE)])


def page_tables(file: DumpFile, found: Diagnosis, random: Random) -> None:
    """Entries of the walks to the kernel's data, and those around them."""
    kernel = found.kernel
    vaddrs = [kernel.address(name) for name in VARIABLES if kernel.symbols.address(name)]
    p2m = kernel.value("xen_p2m_addr")
    vaddrs += [p2m + i * PAGE_SIZE for i in range(0, len(found.table.leaves), 16)]
    entries = [step.entry_maddr for v in vaddrs for step in kernel.tables.walk(v)]
    overwrite(file, found, random, entries)


def variables(file: DumpFile, found: Diagnosis, random: Random) -> None:
    kernel = found.kernel
    known = [kernel.address(name) for name in VARIABLES if kernel.symbols.address(name)]
    overwrite(file, found, random, [kernel.tables.translate(vaddr) for vaddr in known])


def headers(file: DumpFile, found: Diagnosis, random: Random) -> None:
    """Bytes of the ELF header and of the program headers."""
    for at in random.choices(range(16, 64 + 56 * 6), k=random.randint(1, 4)):
        file.write_at(at, random.randbytes(1))


def anything(file: DumpFile, found: Diagnosis, random: Random) -> None:
    for damage in random.choices(PLACES[:-1], k=3):
        damage(file, found, random)


PLACES: list[Damage] = [
    notes, what_xen_says, list_of_lists, list_page, leaves, page_tables, variables, headers,
    anything,
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(untouched: Dump) -> Diagnosis:
    return diagnosis(untouched)


@pytest.fixture(scope="module")
def scratch(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """A copy of the untouched dump to be damaged; in the end it must be the untouched one again."""
    copy = copy_of(untouched, tmp_path_factory.mktemp("fuzz"))
    yield Dump(untouched.vmlinux, copy)
    subprocess.run(["cmp", copy, untouched.vmcore], check=True)
    copy.unlink()


class Case:
    """Runs on one damaged dump."""

    def __init__(self, crash: Crash, dump: Dump) -> None:
        self.crash = crash
        self.dump = dump

    def run(self, words: list[str | Path], commands: Iterable[str]) -> Ran | None:
        """Run a session that is asked ``eval 16`` last; None: it has to be killed."""
        files: list[str | Path] = [self.dump.vmlinux, self.dump.vmcore]
        limited = ["prlimit", f"--cpu={SECONDS}", *words, *files, "-s"]
        try:
            ran = self.crash.run(limited, [*commands, "eval 16", "quit"])
        except subprocess.TimeoutExpired:
            return None
        return None if ran.status in (-signal.SIGXCPU, -signal.SIGKILL) else ran

    def ends(self, ran: Ran | None) -> str:
        """Return how a session ended, in a few words; empty: it lived to its end."""
        if ran is None:
            return "hangs"
        if ran.status == 0 and ALIVE in ran.text:
            return ""
        return f"exit status {ran.status}"

    def list_has_a_gap(self) -> bool:
        core = ElfCore(self.dump.vmcore)
        note = read_crash_note(core.notes)
        return note is not None and read_list(core, note.frame_list_mfn).gap is not None

    def judge(
        self, words: list[str | Path], commands: tuple[str, ...], plain: list[str | Path]
    ) -> str:
        """Run a session of ours; what plain crash does not survive either is returned, in words."""
        ran = self.run(words, commands)
        text = ran.text if ran else ""
        assert "Traceback" not in text
        assert not re.search(r"\.py, line \d+\)", text), text[-3000:]
        ended = self.ends(ran)
        if not ended:
            return ""
        same = self.ends(self.run(plain, ()))
        if same != ended and "malloc" in text and self.list_has_a_gap():
            same = ended  # crash has written past the end of its own table of leaves
        assert ended == same, f"{ended}; plain crash {same or 'lives'}:\n{text[-3000:]}"
        said = [
            line for line in re.split(r"[\r\n]+", text) if line.startswith(("crash: ", "malloc"))
        ]
        return f"{ended}: {said[-1] if said else ' '.join(text.split())[-70:]}"


NUMBERS = [
    pytest.param(n, marks=() if n < len(PLACES) else pytest.mark.thorough) for n in range(CASES)
]
"""Every case; the first of each place is for ``make test``, the others are marked."""


@pytest.mark.parametrize("number", NUMBERS)
def test_damage_at_random(
    crash: Crash,
    scratch: Dump,
    sound: Diagnosis,
    host: Path,
    record_property: Callable[[str, object], None],
    number: int,
) -> None:
    random = Random(number)
    damage = PLACES[number % len(PLACES)]
    file = DumpFile(scratch.vmcore)
    try:
        damage(file, sound, random)
        before = scratch.vmcore.stat()
        case = Case(crash, scratch)
        minimal = ("extend " + str(host), "extend p2mfix.py", *LOOK)
        ends = [
            case.judge([BIN / "p2mfix"], LOOK, ["crash"]),
            case.judge(["crash", "--minimal"], minimal, ["crash", "--minimal"]),
        ]
        if damage in (list_of_lists, list_page):
            assert not ends[0], "the list alone is damaged, and p2mfix did not open the dump"
        after = scratch.vmcore.stat()
        assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
        for end in ends:
            record_property("damaged", f"{number}, {damage.__name__}: {end}")
    except P2mError as error:  # of the test's own: nothing of the package was run
        pytest.fail(str(error))
    finally:
        file.undo()
