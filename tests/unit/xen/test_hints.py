# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a domain's page tables and list may be, by Xen's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import Root
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.xen.hints import DomainHints, hints_of_guest
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO
from pykdump_ext.xen.shared_info import LIST_INVALID

from ..made_up.dump import MadeUpDump
from ..made_up.host import ARCH, DIRECT_MAP, Host, guest_on_host
from ..made_up.machine import PAGE


def hints_of(memory: PageMemory, notes: list[Note], domain: int) -> DomainHints:
    return OpenedDump(MadeUpDump(memory, notes), domain=domain).hints


def test_a_guests_p2m_is_rebuilt() -> None:
    host, guest, leaf = guest_on_host()
    memory = host.memory()
    hints = hints_of(memory, host.notes(), 1)
    assert (hints.domain, hints.roots) == (1, (Root(guest.root, "p2m_cr3"),))
    found = diagnose(memory, guest.symbols, guest.banner, hints)
    assert found.rebuilt.leaf(0) == leaf
    assert (found.coverage.memory, found.coverage.covered, found.check.passed) == (512, 0, True)


@pytest.mark.parametrize("wrong", ["not set", "of another domain", "not a top page table"])
def test_a_root_is_found_by_the_frame_table_where_p2m_cr3_is(wrong: str) -> None:
    host, guest, _ = guest_on_host()
    dom0, domain = host.domains
    frame = host.machine.frame()
    if wrong == "of another domain":
        host.give(dom0, frame, level=4)
    else:
        host.give(domain, frame, level=3)
    shared = host.machine.get(domain, 2) - DIRECT_MAP >> 12
    host.machine.put(shared, ARCH // 8 + 3, 0 if wrong == "not set" else frame * PAGE)
    hints = hints_of(host.memory(), host.notes(), 1)
    assert hints.roots == (Root(guest.root, "Xen's frame table"),)


def test_a_domain_without_page_tables_of_a_pv_kernel_cannot_be_opened() -> None:
    host = Host()
    host.give(host.add(0), host.machine.frame())
    xen = host.open()
    with pytest.raises(P2mError, match=r"not a 64-bit PV domain \(its kind is HVM\), so it has no"):
        hints_of_guest(xen, xen.domain(0))


def test_a_cpu_on_another_domains_page_tables_is_none_of_dom0s() -> None:
    host, guest, _ = guest_on_host()
    idle, own = host.machine.frame(), host.machine.frame()
    host.direct(idle)
    host.give(host.domains[0], own, level=4)
    host.cr3s = [guest.root, idle * PAGE, own * PAGE]
    hints = hints_of(host.memory(), host.notes(), 0)
    assert (hints.domain, hints.frame_list_mfn) == (0, 0x99)
    assert hints.roots == (Root(idle * PAGE, "cr3, cpu 1"), Root(own * PAGE, "cr3, cpu 2"))


def test_dom0_is_known_by_its_notes_where_xens_memory_is_damaged() -> None:
    host, guest, _ = guest_on_host()
    host.cr3s = [guest.root]
    host.machine.put(host.variables, 0, 0x1234)
    hints = hints_of(host.memory(), host.notes(), 0)
    assert hints.roots == (Root(guest.root, "cr3, cpu 0"),)
    with pytest.raises(P2mError, match="list of domains is damaged"):
        hints_of(host.memory(), host.notes(), 1)
    with pytest.raises(P2mError, match="not a dump of a Xen host"):
        hints_of(host.memory(), [], 1)


class SomeKernel:
    """A namelist of a kernel that is not in the dump."""

    path = Path("vmlinux")

    def address(self, name: str) -> int | None:
        return 0xFFFFFFFF81000000

    def banner(self) -> bytes:
        return b"Linux version 6.1.0"


@pytest.mark.parametrize("listed", [0, LIST_INVALID])
def test_a_pvh_dom0_is_refused_because_it_has_no_p2m(listed: int) -> None:
    host = Host()
    host.give(host.add(0, (0x8000, listed)), host.machine.frame())
    host.cr3s = [host.xen.root * PAGE]  # Xen's idle page table
    notes = [
        replace(note, data=note.data[:-8] + listed.to_bytes(8, "little"))
        if note.type == XEN_ELFNOTE_CRASH_INFO
        else note
        for note in host.notes()
    ]
    dump = MadeUpDump(host.memory(), notes)
    for opened in (OpenedDump(dump), OpenedDump(dump, [SomeKernel()])):
        with pytest.raises(P2mError, match=r"^dom0 is a PVH or HVM domain: it has no p2m, and p2m"):
            _ = opened.diagnosis
