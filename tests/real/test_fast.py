# SPDX-License-Identifier: GPL-3.0-or-later
"""Fast reads and walks answer what crash's own functions answer, failures included."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pykdump_ext.machine.memory import PAGE_SHIFT
from pykdump_ext.machine.paging import ENTRIES
from pykdump_ext.p2m.entries import Kind, kind_of
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START
from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.broken import truncated as truncated_of
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell
from tests.lab.matrix import untouched as whole_dump
from tests.lab.packages import Missing
from tests.lab.planted import PLANTS, planted

from .conftest import Packed
from .outputs import printed, to_files
from .places import Place
from .questions import (
    ANSWER,
    BUILD,
    JUMPED,
    KERNEL_SLOTS,
    MACHINE,
    PHYSICAL,
    SOURCE,
    Asked,
    Question,
    ask,
    assert_equal,
    found_slot,
    questions,
    users_of,
    write,
)
from .sessions import BIN, Crash, Terminal, misses_tasks

THOROUGH = pytest.mark.thorough


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension that asks."""
    built = tmp_path_factory.mktemp("answers") / "answers.so"
    subprocess.run(["gcc", *BUILD, SOURCE, "-o", built], check=True)
    return built


@pytest.fixture(scope="session")
def asked(untouched: Dump) -> list[Question]:
    """Questions on the main dump, and on all that have its memory."""
    made = questions(diagnosis(untouched), users_of(untouched), Random(1), 4000)
    assert len(made) > 30_000
    return made


def opens(dump: Dump, *options: str) -> list[str | Path]:
    return [BIN / "p2mfix", dump.vmlinux, dump.vmcore, "-s", *options]


def ask_session(
    crash: Crash, dump: Dump, answers: Path, asked: list[Question], *options: str
) -> Asked:
    """Ask a session of this machine's crash, and fail where fast answers are others."""
    words = opens(dump, *options)
    told = ask(lambda lines: crash.run(words, [*lines, "quit"]), crash.folder, answers, asked)
    assert_equal(asked, told)
    return told


def test_a_repaired_session_translates_and_reads_as_crash_does(
    crash: Crash, truncated: Dump, answers: Path, asked: list[Question]
) -> None:
    told = ask_session(crash, truncated, answers, asked)
    kinds = {(question.kind, returned) for question, (returned, _) in zip(asked, told.crashs)}
    assert kinds >= {(kind, returned) for kind in range(4) for returned in (0, 1)}
    jumps = sum(returned == JUMPED for returned, _ in told.crashs)
    fast, left = told.walks()
    assert fast > 10_000 and left <= jumps, (fast, left, jumps)


@pytest.mark.thorough
def test_millions_of_addresses_translate_and_read_as_crash_does(
    crash: Crash, untouched: Dump, truncated: Dump, answers: Path
) -> None:
    made = questions(diagnosis(untouched), users_of(untouched), Random(4), 400_000)
    assert len(made) > 2_000_000
    told = ask_session(crash, truncated, answers, made)
    assert told.walks()[0] > 500_000


def test_a_compressed_dump_without_xens_table_translates_and_reads_as_crash_does(
    crash: Crash, untouched: Dump, packed: Packed, answers: Path, asked: list[Question]
) -> None:
    some = asked[::8]  # crash's own search for a frame that no pfn has unpacks every leaf
    told = ask_session(crash, packed(untouched, "-c"), answers, some)
    assert told.walks()[0] > 1000


@pytest.mark.parametrize(
    "layout",
    ["three-level", *(pytest.param(name, marks=THOROUGH) for name in ("two-level", "flat"))],
)
def test_an_older_layout_translates_and_reads_as_crash_does(
    crash: Crash, untouched: Dump, answers: Path, asked: list[Question], layout: str
) -> None:
    broken, options = planted(untouched, layout)[1], PLANTS[layout].options
    told = ask_session(crash, broken, answers, asked, *options)
    assert told.walks()[0] > 10_000


@pytest.mark.thorough
@pytest.mark.parametrize("cell", [cell for cell in CELLS if not cell.cannot], ids=str)
def test_every_crash_translates_and_reads_as_without_fast_reads(cell: Cell, tmp_path: Path) -> None:
    try:
        place = Place(cell, tmp_path)
        broken = truncated_of(whole_dump(cell.kernel))
    except Missing as error:
        pytest.skip(str(error))
    shutil.copy(SOURCE, tmp_path)
    built = tmp_path / "answers.so"
    made = place.run(["gcc", *BUILD, tmp_path / SOURCE.name, "-o", built], [])
    assert made.status == 0, made.text
    found = diagnosis(whole_dump(cell.kernel))
    some = questions(found, users_of(whole_dump(cell.kernel)), Random(3), 1000)
    words: list[str | Path] = [
        place.p2mfix, broken.vmlinux, broken.vmcore, "-s", *cell.options
    ]  # fmt: skip
    told = ask(lambda lines: place.run(words, lines), tmp_path, built, some)
    assert_equal(some, told)
    assert told.walks()[0] > 1000


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
    told = ask_session(crash, damaged, answers, some)
    assert told.walks()[0] > 1000


def test_zero_excluded_takes_effect_at_once(
    crash: Crash, untouched: Dump, packed: Packed, answers: Path, asked: list[Question]
) -> None:
    some = [question for question in asked if question.kind in (PHYSICAL, MACHINE)][::20]
    write(crash.folder, some)
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
    write(crash.folder, asked[::10])
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
        "p2m: --keep takes 1 to 16,384 MiB, not 0\n"
        "p2m: --keep takes 1 to 16,384 MiB, not 2,000,000\n"
        "p2m: nothing to undo: crash reads by the dump's list\n"
    )


def test_plain_leaves_crash_as_it_is(crash: Crash, untouched: Dump, truncated: Dump) -> None:
    healthy = crash.run([*opens(untouched), "--plain"], ["p2m fast", "quit"])
    if not misses_tasks():
        assert "command not found: p2m" in healthy.text
    broken = crash.run([*opens(truncated), "--plain"], ["p2m fast", "quit"])
    assert broken.text.endswith("fast reads: off\n") and broken.status == 0


def test_a_full_session_on_a_healthy_dump_becomes_fast_and_slow_again(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    state = 'py -c "from pykdump_ext.host.fast import fast_is_on; print(fast_is_on())"'
    commands = [
        f"extend {host}", state, "extend p2mfix.py", state, "kmem -s > fast",
        "extend -u p2mfix.py", state, "kmem -s > slow",
    ]  # fmt: skip
    ran = crash(untouched, commands)
    assert re.findall("(?m)^(True|False)$", ran.text) == ["False", "True", "False"], ran.text
    undone = "p2mfix: crash reads and translates by its own functions again\n"
    assert ran.text.count(undone) == 1
    assert re.search(rf"{undone}\S+p2mfix\.py: unloaded\n", ran.text)
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


CHILD_AND_PARENT = """
import os
from pykdump_ext.host import crash
from pykdump_ext.host.fast import slow_down
pages = [0xffff888000000000 + (pfn << 12) for pfn in range(0x1000, 0x2800)]
child = os.fork()
found = [crash.readmem(page, 64) for page in (pages if child else reversed(pages))]
if not child:
    os._exit(0)
os.waitpid(child, 0)
again = [crash.readmem(page, 64) for page in pages]
slow_down()
wanted = [crash.readmem(page, 64) for page in pages]
print("pages", len(set(wanted)) > 100, found == wanted, again == wanted)
"""


def test_a_child_that_reads_does_not_disturb_its_parent(crash: Crash, truncated: Dump) -> None:
    crash.write("both.py", CHILD_AND_PARENT)
    ran = crash.run(opens(truncated), ["py both.py", "quit"])
    assert ran.text.endswith("pages True True True\n"), ran.text
