# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump opened once: each answer worked out once, each failure too."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import Root
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.opened import OpenedDump
from pykdump_ext.reports import report

from .made_up.damage import small_guest
from .made_up.dump import CountingDump, MadeUpDump, MadeUpNamelist
from .made_up.host import Host
from .made_up.machine import PAGE
from .made_up.opened import OnHost, of_guest, same

KEPT = (
    "note", "xen", "domains", "vcpus", "hints", "published", "proved", "diagnosis",
    "diagnosis_without_namelist",
)  # fmt: skip
"""The properties that are worked out."""
OF_PROVED = ("namelist", "kernel", "release")
"""Those that are parts of another."""
READING = tuple(name for name in KEPT if name != "note")  # which is in the dump's notes


# Each answer once


@pytest.mark.parametrize("name", [*KEPT, *OF_PROVED])
@pytest.mark.parametrize("domain", [0, 1])
def test_a_second_look_reads_nothing_and_finds_the_same(
    on_host: OnHost, name: str, domain: int
) -> None:
    opened = on_host.opened(domain)
    first = getattr(opened, name)
    assert bool(on_host.dump.reads) == (name != "note")
    reads, asked = len(on_host.dump.reads), on_host.dump.asked
    second = getattr(opened, name)
    assert second == first if name == "release" else second is first
    assert (len(on_host.dump.reads), on_host.dump.asked) == (reads, asked)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([*KEPT, *OF_PROVED]))
def test_the_order_of_the_questions_changes_no_answer(on_host: OnHost, order: list[str]) -> None:
    opened = on_host.opened()
    answers = {name: getattr(opened, name) for name in order}
    reads = len(on_host.dump.reads)
    for name in order:
        assert getattr(opened, name) is answers[name] or name == "release"
    assert len(on_host.dump.reads) == reads
    other = on_host.opened()
    assert (other.note, other.hints, other.published, other.release, other.domains) == tuple(
        answers[name] for name in ("note", "hints", "published", "release", "domains")
    )
    assert same(other.diagnosis, answers["diagnosis"])
    assert same(other.diagnosis_without_namelist, answers["diagnosis_without_namelist"])


def test_a_dump_is_not_read_before_it_is_asked(on_host: OnHost) -> None:
    opened = on_host.opened()
    assert (on_host.dump.reads, on_host.dump.asked) == ([], 0)
    assert opened.dump is on_host.dump
    assert (opened.paths, opened.domain) == (("vmcore",), 0)
    assert on_host.dump.reads == []


def test_what_is_found_is_what_there_is(on_host: OnHost) -> None:
    opened, dom0 = on_host.opened(), on_host.dom0
    assert opened.note is not None and opened.note.frame_list_mfn == dom0.list_mfn
    assert [domain.id for domain in opened.domains] == [0, 1]
    assert opened.hints.roots == (Root(dom0.root, "cr3, cpu 1"),)
    assert opened.kernel.root == Root(dom0.root, "cr3, cpu 1")
    assert opened.release == "5.4.17-test"
    assert opened.namelist is opened.proved[0] is opened.namelists[0]
    assert not opened.diagnosis.healthy
    assert opened.diagnosis.coverage.lost == [(1024, 1535)]
    assert opened.diagnosis.published == opened.published
    assert opened.vcpus == []


def test_the_list_is_read_once_for_all_who_ask(on_host: OnHost) -> None:
    opened = on_host.opened()
    for name in ("published", "proved", "diagnosis", "diagnosis_without_namelist"):
        getattr(opened, name)
    tops = [read for read in on_host.dump.reads if read[0] == on_host.dom0.list_mfn * PAGE]
    assert len(tops) == 1


def test_domains_come_by_id_from_xens_memory_as_it_is_known() -> None:
    host = Host()
    for number in (0, 7, 3):
        host.add(number)
    dump = CountingDump(host.memory(), host.notes())
    opened = OpenedDump(dump)
    assert [domain.id for domain in opened.xen.domains()] == [0, 7, 3]
    root = opened.xen.tables.root
    assert [domain.id for domain in opened.domains] == [0, 3, 7]
    assert sum(maddr == root for maddr, _, _ in dump.reads) == 1


# Page tables


def test_page_tables_are_kept_by_root_whatever_the_flags_in_cr3(on_host: OnHost) -> None:
    opened = on_host.opened()
    tables = opened.tables(on_host.dom0.root)
    assert isinstance(tables, PageTables)
    assert opened.tables(on_host.dom0.root | 0x18 | 1 << 63) is tables
    assert opened.tables(on_host.guest.root) is not tables
    assert opened.kernel.tables is tables
    assert opened.diagnosis.kernel is opened.kernel


def test_report_proof_and_diagnosis_share_page_tables(
    on_host: OnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[OpenedDump] = []

    def opening(dump: MadeUpDump, namelists: object, paths: object) -> OpenedDump:
        made.append(on_host.opened())
        return made[0]

    monkeypatch.setattr(report, "open_dump", lambda paths: on_host.dump)
    monkeypatch.setattr(report, "OpenedDump", opening)
    result, found = report.report_files(["vmcore"])
    (opened,) = made
    assert result.vmlinux == "vmlinux" and result.problems == []
    assert found is opened.diagnosis
    own = {table * PAGE for table in on_host.dom0.space.tables}
    times = Counter(maddr for maddr, size, _ in on_host.dump.reads if size == PAGE)
    assert {times[table] for table in own & times.keys()} == {1}
    assert on_host.dom0.root in times


# Failures


FAILURES = {
    "xen": "no VMCOREINFO_XEN note",
    "domains": "no VMCOREINFO_XEN note",
    "proved": "is of Linux 1, and the dump is of Linux 5.4.17-test",
    "kernel": "is of Linux 1, and the dump is of Linux 5.4.17-test",
    "release": "is of Linux 1, and the dump is of Linux 5.4.17-test",
    "diagnosis": "is of Linux 1, and the dump is of Linux 5.4.17-test",
    "diagnosis_without_namelist": "no shared_info with the kernel's p2m",
}


@pytest.mark.parametrize(("name", "says"), FAILURES.items())
def test_a_failure_is_remembered_and_raised_again_without_reading(name: str, says: str) -> None:
    guest, _ = small_guest("linear", 1)
    guest.list_mfn = 0
    opened, dump = of_guest(guest, MadeUpNamelist(guest.symbols, b"Linux version 1\n"))
    with pytest.raises(P2mError, match=says) as first:
        getattr(opened, name)
    reads, asked = len(dump.reads), dump.asked
    for _ in range(3):
        with pytest.raises(P2mError) as again:
            getattr(opened, name)
        assert again.value is first.value
    assert (len(dump.reads), dump.asked) == (reads, asked)


def test_one_failure_is_what_all_fail_with_that_build_on_it() -> None:
    guest, _ = small_guest("linear", 1)
    opened, dump = of_guest(guest, MadeUpNamelist(guest.symbols, b"Linux version 1\n"))
    with pytest.raises(P2mError) as first:
        _ = opened.diagnosis
    reads = len(dump.reads)
    for name in ("proved", "kernel", "release"):
        with pytest.raises(P2mError) as again:
            getattr(opened, name)
        assert again.value is first.value
    assert opened.namelist is None
    assert len(dump.reads) == reads


def test_a_list_that_cannot_be_read_is_no_failure_and_its_problem_is_kept() -> None:
    guest, _ = small_guest("linear", 1)
    guest.list_mfn = 0x7777777
    opened, dump = of_guest(guest)
    (problem,) = opened.published.problems
    assert "7777777000" in problem
    assert opened.diagnosis.coverage.covered == 0
    assert sum(maddr == 0x7777777 * PAGE for maddr, _, _ in dump.reads) == 1


def test_an_owner_that_cannot_be_found_is_none_and_xen_is_not_looked_for_again() -> None:
    opened, dump = of_guest(small_guest("linear", 1)[0])
    assert opened.owner(0x1000) is None
    reads, asked = len(dump.reads), dump.asked
    assert opened.owner(0x2000) is None
    assert (len(dump.reads), dump.asked) == (reads, asked)


def test_the_owner_of_a_page_table_is_a_domain(on_host: OnHost) -> None:
    opened = on_host.opened()
    assert opened.owner(on_host.dom0.root) == 0
    assert opened.owner(on_host.guest.root | 0x18) == 1
    assert opened.owner(opened.xen.tables.root) is None


# Dumps that are not of Xen


@pytest.mark.parametrize("domain", [0, 1])
@pytest.mark.parametrize("name", ["hints", "published", "proved", "kernel", "diagnosis"])
def test_a_dump_that_is_not_of_xen_gives_a_sentence(name: str, domain: int) -> None:
    guest, _ = small_guest("linear", 1)
    namelist = MadeUpNamelist.of(guest)
    opened = OpenedDump(MadeUpDump(guest.machine.memory(), []), [namelist], domain=domain)
    assert opened.note is None
    assert opened.namelist is None
    with pytest.raises(P2mError, match="not a dump of a Xen host"):
        getattr(opened, name)


def test_a_dump_that_is_not_of_xen_has_no_domains_and_no_vcpus() -> None:
    opened = OpenedDump(MadeUpDump(small_guest("linear", 1)[0].machine.memory(), []))
    assert opened.vcpus == []
    assert opened.owner(0x1000) is None
    for name in ("xen", "domains"):
        with pytest.raises(P2mError, match="no XEN_ELFNOTE_CRASH_INFO note"):
            getattr(opened, name)
