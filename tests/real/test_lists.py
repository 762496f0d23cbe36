"""Lists broken in every way: ``p2mfix`` opens the dump as if its list were whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.p2m.diagnosis import Diagnosis
from tests.lab.broken import DumpFile, copy_of, diagnosis, free_pages, with_list_mfn
from tests.lab.dump import Dump
from tests.lab.planted import words

from .conftest import BIN, Crash
from .test_repair import to_files, without_dumpfile

Damage = Callable[[DumpFile, Diagnosis], None]
COMMANDS = ("sys", "bt", "ps", "mod", "kmem -i", "p runqueues:1", "p2m undo", "p2m fix", "bt -a")
WORD = 8


def list_pages(found: Diagnosis) -> list[int]:
    """The mfns of the list: of its first page, then of the pages that names."""
    top = found.hints.frame_list_mfn
    page = found.kernel.memory.read(top * PAGE_SIZE, PAGE_SIZE, "list of lists")
    return [top, *(int.from_bytes(page[at : at + WORD], "little") for at in range(0, 4096, WORD))]


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
    others = [mfn for mfn in range(0x25000, 0x25400) if not any(found.pfns_of(mfn))]
    file.write(top * PAGE_SIZE, words([middle] * 512))
    file.write(middle * PAGE_SIZE, words(leaves * 256))
    for number, leaf in enumerate(leaves):
        file.write(leaf * PAGE_SIZE, words(others[number * 512 : number * 512 + 512]))
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


@pytest.fixture(scope="module")
def scratch(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """A copy of the untouched dump that tests may damage."""
    copy = copy_of(untouched, tmp_path_factory.mktemp("lists"))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


@pytest.fixture(scope="module")
def wanted(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What plain crash prints on the untouched dump."""
    folder = tmp_path_factory.mktemp("wanted")
    commands = to_files(tuple(c for c in COMMANDS if "p2m" not in c), folder / "out")
    assert Crash(folder, folder)(untouched, commands, "-s").status == 0
    return [without_dumpfile((folder / "out" / str(n)).read_text()) for n in range(len(commands))]


@pytest.mark.parametrize("damage", CASES, ids=[case.__name__ for case in CASES])
def test_p2mfix_opens_a_dump_whose_list_is(
    crash: Crash, untouched: Dump, scratch: Dump, wanted: list[str], damage: Damage
) -> None:
    file = DumpFile(scratch.vmcore)
    folder = crash.folder / "out"
    try:
        damage(file, diagnosis(untouched))
        p2mfix: list[str | Path] = [BIN / "p2mfix", scratch.vmlinux, scratch.vmcore, "-s"]
        ran = crash.run(p2mfix, [*to_files(COMMANDS, folder), "!env | grep PRELOAD", "quit"])
    finally:
        file.undo()
    assert ran.status == 0, ran.text
    assert "Traceback" not in ran.text
    shown = [without_dumpfile((folder / str(n)).read_text()) for n in range(len(COMMANDS))]
    assert [shown[n] for n, c in enumerate(COMMANDS) if "p2m" not in c] == wanted
    assert "LD_PRELOAD" not in ran.text
