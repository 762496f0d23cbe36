# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix diagnose`` and ``p2mfix map`` on real dumps, without crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.p2m.failure import Failure
from pykdump_ext.reports.report import LOOKS_WHOLE
from tests.lab.broken import DumpFile, copy_of, diagnosis, with_cr3s
from tests.lab.dump import Dump

from . import broken_lists as lists
from .sessions import BIN, Crash, Ran, misses_tasks

VERDICTS = {
    lists.absent: Failure.ABSENT,
    lists.invalid: Failure.ABSENT,
    lists.outside_the_dump: Failure.UNREADABLE,
    lists.a_page_that_is_no_list: Failure.NO_LIST,
    lists.another_domains: Failure.NO_LIST,
    lists.page_overwritten: Failure.DAMAGED,
    lists.zero_entries_in_the_middle: Failure.HOLES,
    lists.stale: Failure.STALE,
    lists.in_a_circle: Failure.CIRCULAR,
    lists.truncated_inside_a_page: Failure.LEAVES_MISSING,
    lists.a_page_behind_the_memory_is_zero: Failure.HOLES,
    lists.a_leaf_without_memory_is_outside_the_dump: Failure.DAMAGED,
}


def p2mfix(crash: Crash, *words: str | Path) -> Ran:
    return crash.run([BIN / "p2mfix", *words])


def percent(found: Diagnosis) -> str:
    return f"{100 * found.coverage.covered / 179_200:.1f}%"


def page_tables_of_first_cpu(dump: Dump) -> str:
    """What the report says of cpu 0: an idle one may have been on Xen's own page tables."""
    found = diagnosis(dump)
    banner = found.kernel.address("linux_banner")
    wanted = found.kernel.read(banner, 64, "linux_banner")
    root = found.hints.roots[0]
    try:
        tables = PageTables(found.kernel.memory, root.maddr)
        linux = tables.read(banner, 64, "linux_banner") == wanted
    except ReadError:
        linux = False
    release = dump.vmlinux.name.removeprefix("vmlinux-")
    owner = f"Linux {release}" if linux else "no Linux kernel: Xen's own"
    return f"cpu 0: {root.maddr:x}, {owner}"


@pytest.fixture(scope="module")
def scratch(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    copy = copy_of(untouched, tmp_path_factory.mktemp("diagnose"))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


def test_every_broken_list_has_its_name(crash: Crash, untouched: Dump, scratch: Dump) -> None:
    assert list(VERDICTS) != [] and set(VERDICTS) == set(lists.CASES)
    found = diagnosis(untouched)
    for damage, wanted in VERDICTS.items():
        file = DumpFile(scratch.vmcore)
        damage(file, found)
        ran = p2mfix(crash, "diagnose", scratch.vmcore, scratch.vmlinux, "--json")
        file.undo()
        assert ran.status == 0, ran.text
        told = json.loads(ran.text)
        assert (damage.__name__, told["verdict"]) == (damage.__name__, wanted.meaning)
        assert told["crash_says"] == wanted.crash_says()
        assert told["next"] == f"p2mfix {scratch.vmlinux} {scratch.vmcore}"
        assert told["kinds"]["memory"] == 179_200


def test_the_report_of_the_truncated_dump(crash: Crash, truncated: Dump) -> None:
    found = diagnosis(truncated)
    ran = p2mfix(crash, "diagnose", truncated.vmcore, truncated.vmlinux)
    facts: dict[str, str] = {}
    for line in ran.text.splitlines():
        name, _, text = line.partition(": ")
        facts.setdefault(name.strip(), text)
    release = truncated.vmlinux.name.removeprefix("vmlinux-")
    assert facts["format"] == "ELF"
    assert facts["Xen"] == found.hints.version
    assert facts["Linux"] == release
    assert facts["page tables"] == page_tables_of_first_cpu(truncated)
    assert facts["dump's list"].startswith(f"mfn {found.hints.frame_list_mfn:x}, ")
    assert facts["covered"] == f"{found.coverage.covered:,} of 179,200 pages ({percent(found)})"
    ((first, last),) = found.coverage.lost
    assert first == 0x100000 and last + 1 - first == 179_200 - found.coverage.covered > 20_000
    assert facts["lost"] == f"pfn {first:x}-{last:x}"
    assert facts["verdict"] == Failure.TRUNCATED.meaning
    assert facts["next"] == f"p2mfix {truncated.vmlinux} {truncated.vmcore}"


def test_without_a_namelist_the_dump_tells_what_it_can(
    crash: Crash, scratch: Dump, truncated: Dump
) -> None:
    file = DumpFile(scratch.vmcore)
    xen_only = p2mfix(crash, "diagnose", scratch.vmcore).text
    release = scratch.vmlinux.name.removeprefix("vmlinux-")
    assert f"page tables: {page_tables_of_first_cpu(scratch)}\n" in xen_only
    assert f"crash needs the vmlinux of {release}\n" in xen_only
    assert "covered: 179,200 of 179,200 pages (100.0%)\n" in xen_only
    early = p2mfix(crash, "diagnose", truncated.vmcore, "--json").text
    assert json.loads(early)["verdict"] == Failure.TRUNCATED.meaning
    assert json.loads(early)["max_pfn"] == diagnosis(truncated).table.max_pfn
    program = "p2mfix" if misses_tasks() else "crash"
    assert f"next: {program} VMLINUX {scratch.vmcore}\n" in xen_only
    file.edit_notes(with_cr3s(0x1000))
    text = p2mfix(crash, "diagnose", scratch.vmcore).text
    whole = p2mfix(crash, "diagnose", scratch.vmcore, scratch.vmlinux).text
    file.undo()
    assert "cpu 3: 1000, no Linux kernel: Xen's own\n" in text
    assert f"crash needs the vmlinux of {release}\n" in text  # found by its shared_info
    assert "(init_top_pgt)" in whole and "verdict: the list is whole\n" in whole


def test_a_kernel_that_does_not_publish_its_p2m_is_judged_by_its_direct_map(
    crash: Crash, scratch: Dump, truncated: Dump
) -> None:
    """As one of 2.6.37 to 3.18 is, whose p2m has three levels."""
    found = diagnosis(scratch)
    shared = found.hints.shared
    assert shared is not None and shared.p2m_cr3
    page = found.kernel.memory.read(shared.mfn << PAGE_SHIFT, PAGE_SIZE, "shared_info")
    p2m_cr3 = page.index(shared.p2m_cr3.to_bytes(8, "little"))
    verdicts = {}
    for dump in (scratch, Dump(truncated.vmlinux, copy_of(truncated, crash.folder))):
        file = DumpFile(dump.vmcore)
        file.write((shared.mfn << PAGE_SHIFT) + p2m_cr3, bytes(8))
        told = json.loads(p2mfix(crash, "diagnose", dump.vmcore, "--json").text)
        file.undo()
        assert (told["layout"], told["mapped"]) == (None, 179_200)
        assert told["release"] == dump.vmlinux.name.removeprefix("vmlinux-")
        verdicts[told["verdict"]] = told
    whole, ends = verdicts[LOOKS_WHOLE], verdicts[Failure.TRUNCATED.meaning]
    assert (whole["covered"], whole["lost"]) == (179_200, [])
    wanted = diagnosis(truncated).coverage
    assert ends["covered"] == wanted.covered
    assert ends["lost"] == [[hex(first), hex(last)] for first, last in wanted.lost]


def test_many_dumps_are_a_line_each_and_a_bad_file_does_not_stop_the_rest(
    crash: Crash, untouched: Dump, truncated: Dump, not_xen: Dump
) -> None:
    folder = crash.folder / "cases"
    (folder / "deep").mkdir(parents=True)
    dumps = {"a": untouched, "deep/b": truncated, "z": not_xen}
    for name, dump in dumps.items():
        (folder / name).symlink_to(dump.vmcore)
    (folder / "cut").write_bytes(untouched.vmcore.read_bytes()[:5000])
    (folder / "text").write_text("no dump at all\n")
    shutil.copy("/bin/true", folder / "program")
    ran = p2mfix(crash, "diagnose", folder, untouched.vmlinux, "--jobs", "2")
    assert ran.status == 0, ran.text
    lines = dict(line.split(": ", 1) for line in ran.text.splitlines())
    release = untouched.vmlinux.name.removeprefix("vmlinux-")
    xen = diagnosis(untouched).hints.version
    assert lines.pop(str(folder / "a")).endswith(f"{release}, 100.0% covered, the list is whole")
    assert lines.pop(str(folder / "deep/b")).endswith(
        f"{percent(diagnosis(truncated))} covered, the list ends too early"
    )
    assert lines.pop(str(folder / "z")) == "not a dump of a Xen host"
    assert lines.pop(str(folder / "cut")) == f"Xen {xen}, the dump is incomplete"
    assert not lines
    assert "Traceback" not in ran.text

    ran = p2mfix(crash, "diagnose", folder, untouched.vmlinux, "--json", folder / "z")
    told = [json.loads(line) for line in ran.text.splitlines()]
    assert [Path(one["dump"]).name for one in told] == ["z", "a", "cut", "b"]  # each once


def test_files_that_are_no_dumps_are_a_sentence(crash: Crash, truncated: Dump) -> None:
    (crash.folder / "text").write_text("no dump at all\n")
    ran = p2mfix(crash, "diagnose", "text")
    assert ran.status == 1 and "Traceback" not in ran.text
    assert "not a readable ELF file" in ran.text
    ran = p2mfix(crash, "diagnose", truncated.vmlinux)
    assert (ran.status, ran.text) == (1, "p2mfix: there is no dump among these files\n")
    ran = p2mfix(crash, "map", truncated.vmcore, truncated.vmcore, truncated.vmlinux)
    assert ran.status == 1 and "not the files of one split dump\n" in ran.text
    ran = p2mfix(crash, "map", truncated.vmcore, truncated.vmlinux, "--svg", truncated.vmcore)
    assert ran.status == 1 and "which is never written\n" in ran.text
    ran = crash.run(["sh", "-c", f"{BIN}/p2mfix diagnose {truncated.vmcore} > /dev/full"])
    assert (ran.status, ran.text) == (1, "p2mfix: standard output: No space left on device\n")
    ran = p2mfix(crash, "diagnose", "nowhere")
    assert ran.status == 1 and "nowhere: No such file or directory\n" in ran.text


def test_pictures_outside_a_session_and_in_one(crash: Crash, truncated: Dump, host: Path) -> None:
    files = (truncated.vmcore, truncated.vmlinux)
    outside = p2mfix(crash, "map", *files)
    assert outside.status == 0, outside.text
    lost = 179_200 - diagnosis(truncated).coverage.covered
    assert f"!{lost:>16,}  memory that the dump's list does not have\n" in outside.text
    assert outside.text.startswith("     0  ####")
    drawn = p2mfix(crash, "map", *files, "--svg", "a.svg", "--png", "a.png")
    assert (drawn.status, drawn.text) == (0, "")
    page = p2mfix(crash, "diagnose", *files, "--html", "page.html")
    assert (page.status, page.text) == (0, "")
    assert "the list ends too early" in (crash.folder / "page.html").read_text()
    commands = [f"extend {host}", "extend p2mfix.py", "p2m map > map", "p2m map --svg b.svg"]
    crash(truncated, commands, "--minimal", "-s")
    assert (crash.folder / "map").read_text() == outside.text
    drawing = (crash.folder / "a.svg").read_bytes()
    assert b"<svg" in drawing and (crash.folder / "b.svg").read_bytes() == drawing
