# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged dumps: a sentence, and a session that goes on; never a traceback, never a hang."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.p2m.diagnosis import Diagnosis
from tests.lab.broken import DumpFile, copy_of, diagnosis, with_cr3s
from tests.lab.dump import Dump

from .sessions import BIN, Crash

Damage = Callable[[DumpFile, Diagnosis], None]
GARBAGE = bytes(range(1, 255)) * 17


@pytest.fixture(scope="module")
def scratch(truncated: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """A copy of the truncated dump that tests may damage."""
    copy = copy_of(truncated, tmp_path_factory.mktemp("scratch"))
    yield Dump(truncated.vmlinux, copy)
    copy.unlink()


@pytest.fixture(scope="module")
def sound(truncated: Dump) -> Diagnosis:
    return diagnosis(truncated)


def wrong_cr3s(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(with_cr3s(0x1000))


def no_root_at_all(file: DumpFile, found: Diagnosis) -> None:
    file.edit_notes(with_cr3s(0x1000))
    top = found.kernel.address("init_top_pgt")
    file.write(found.kernel.tables.translate(top), bytes(PAGE_SIZE))


def wrong_banner(file: DumpFile, found: Diagnosis) -> None:
    banner = found.kernel.tables.translate(found.kernel.address("linux_banner"))
    file.write(banner, b"Linux version 2.6.9-another")


def impossible_max_pfn(file: DumpFile, found: Diagnosis) -> None:
    file.write(found.kernel.tables.translate(found.kernel.address("max_pfn")), b"\xff" * 8)


def zero_max_pfn(file: DumpFile, found: Diagnosis) -> None:
    file.write(found.kernel.tables.translate(found.kernel.address("max_pfn")), bytes(8))


def p2m_address_is_garbage(file: DumpFile, found: Diagnosis) -> None:
    address = found.kernel.address("xen_p2m_addr")
    file.write(found.kernel.tables.translate(address), GARBAGE[:8])


def first_p2m_table(found: Diagnosis) -> int:
    steps = list(found.kernel.tables.walk(found.kernel.value("xen_p2m_addr")))
    return steps[-1].entry_maddr & ~(PAGE_SIZE - 1)


def p2m_page_tables_are_garbage(file: DumpFile, found: Diagnosis) -> None:
    file.write(first_p2m_table(found), GARBAGE[:PAGE_SIZE])


def p2m_page_tables_are_zero(file: DumpFile, found: Diagnosis) -> None:
    file.write(first_p2m_table(found), bytes(PAGE_SIZE))


def leaves_are_another_machines(file: DumpFile, found: Diagnosis) -> None:
    shifted = b"".join((n + 0x777).to_bytes(8, "little") for n in range(512))
    for index, mfn in enumerate(found.table.leaves):
        if not found.table.shared(mfn) and index > 0x8000 // 512:
            file.write(mfn * PAGE_SIZE, shifted)


REPAIRED = r"rebuilt from page tables: 179,200"
CASES: list[tuple[Damage, str]] = [
    (wrong_cr3s, r"page tables at [0-9a-f]+ \(init_top_pgt\)"),
    (no_root_at_all, r"extend: no page-table root of this kernel found: 1000 \(cr3, cpu 0\): .*"),
    (wrong_banner, r"is of Linux [\w.-]+, and the dump is of Linux 2\.6\.9-another"),
    (
        impossible_max_pfn,
        r"extend: max_pfn is f{16}, not 1 to [0-9a-f]+: the kernel's data is damaged",
    ),
    (zero_max_pfn, r"extend: max_pfn is 0, not 1 to "),
    (p2m_address_is_garbage, r"extend: read error: kernel virtual address: .* not page aligned"),
    (p2m_page_tables_are_garbage, r"[23]\d\d leaves that the page tables .*\n(.*\n)?.*" + REPAIRED),
    (p2m_page_tables_are_zero, r"[23]\d\d leaves that the page tables .*\n(.*\n)?.*" + REPAIRED),
    (
        leaves_are_another_machines,
        r"extend: the rebuilt list fails its check: the direct map agrees on ",
    ),
]


def test_p2mfix_says_before_crash_starts_that_it_cannot_repair(
    crash: Crash, scratch: Dump, sound: Diagnosis
) -> None:
    file = DumpFile(scratch.vmcore)
    try:
        zero_max_pfn(file, sound)
        ran = crash.run([BIN / "p2mfix", scratch.vmlinux, scratch.vmcore], ["eval 16", "quit"])
    finally:
        file.undo()
    before, _, after = ran.text.partition("crash 8")
    assert before.startswith("p2mfix: cannot rebuild the list before crash starts: max_pfn is 0, ")
    assert "extend: max_pfn is 0, not 1 to " in after and "hexadecimal: 10" in after


@pytest.mark.parametrize(("damage", "sentence"), CASES, ids=[case[0].__name__ for case in CASES])
def test_damage_is_told_in_a_sentence_and_the_session_goes_on(
    crash: Crash, scratch: Dump, sound: Diagnosis, host: Path, damage: Damage, sentence: str
) -> None:
    file = DumpFile(scratch.vmcore)
    try:
        damage(file, sound)
        ran = crash(
            scratch, [f"extend {host}", "extend p2mfix.py", "p2m status", "eval 16"], "--minimal"
        )
        assert "Traceback" not in ran.text
        assert re.search(sentence, ran.text), ran.after("minimal mode")
        assert "hexadecimal: 10" in ran.text
        assert ran.status == 0
    finally:
        file.undo()


def test_a_dump_file_that_ends_early(
    crash: Crash, truncated: Dump, host: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    size = truncated.vmcore.stat().st_size
    opened = []
    for part in (2, 3, 10):
        subprocess.run(["cp", "--sparse=always", truncated.vmcore, cut], check=True)
        os.truncate(cut, size * part // 11)
        ran = crash(
            Dump(truncated.vmlinux, cut), [f"extend {host}", "extend p2mfix.py", "eval 16"],
            "--minimal",
        )  # fmt: skip
        assert "Traceback" not in ran.text
        opened.append("shared object loaded" in ran.text)
        if opened[-1]:  # else crash itself could not open it
            assert re.search(r"^(extend|p2mfix): ", ran.text, re.MULTILINE)
            assert "hexadecimal: 10" in ran.text
    assert any(opened)
    cut.unlink()


OURS = "p2mfix: there is no dump among these files\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", OURS),
        (b"\x7fELF", OURS),
        (b"\x7fELF" + GARBAGE, OURS),
        (GARBAGE, "not a supported file format"),
    ],
)
def test_what_is_no_dump_at_all_is_told_by_crash_or_by_us(
    crash: Crash, truncated: Dump, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "vmcore"
    file.write_bytes(content)
    ran = crash.run([BIN / "p2mfix", truncated.vmlinux, file], ["quit"])
    assert "Traceback" not in ran.text
    assert said in ran.text
    assert ran.status == 1
