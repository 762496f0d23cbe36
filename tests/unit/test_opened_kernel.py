# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel of an opened dump: its namelist among several, its domain, its diagnosis."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pykdump_ext.opened as opened_module
from pykdump_ext.errors import OtherKernelError, P2mError
from pykdump_ext.linux.banners import find_banner
from pykdump_ext.linux.kernel import Root
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import diagnose

from .made_up.damage import small_guest
from .made_up.dump import MadeUpDump, MadeUpNamelist
from .made_up.guest import Guest, guest_with
from .made_up.machine import LAYOUTS, PAGE, SymbolTable
from .made_up.opened import OnHost, of_guest, same
from .made_up.p2m import P2M
from .made_up.strategies import p2ms
from .made_up.talkative import talkative

layouts = pytest.mark.parametrize("layout", LAYOUTS)


def namelists_of(guest: Guest) -> dict[str, MadeUpNamelist]:
    """Return the dump's namelist and some that are not, by what they are."""
    other = MadeUpNamelist(guest.symbols, guest.banner.replace(b"5.4.17", b"5.4.18"), "other")
    return {
        "right": MadeUpNamelist.of(guest),
        "other": other,
        "no kernel": MadeUpNamelist(guest.symbols, b"", "program"),
    }


@pytest.mark.parametrize("order", [*permutations(["right", "other", "no kernel"])], ids="-".join)
def test_the_namelist_that_is_the_dumps_is_picked(order: tuple[str, ...]) -> None:
    guest, _ = small_guest("linear", 1)
    given_ones = namelists_of(guest)
    opened, _ = of_guest(guest, *(given_ones[name] for name in order))
    assert opened.namelist is given_ones["right"]
    assert opened.kernel.symbols is given_ones["right"]
    assert opened.release == "5.4.17-test"
    assert same(opened.diagnosis, of_guest(guest)[0].diagnosis)


def test_none_of_several_is_the_dumps() -> None:
    guest, _ = small_guest("linear", 1)
    given_ones = namelists_of(guest)
    opened, _ = of_guest(guest, given_ones["other"], given_ones["no kernel"])
    assert opened.namelist is None
    for name in ("proved", "kernel", "release", "diagnosis"):
        with pytest.raises(P2mError, match="no given vmlinux matches"):
            getattr(opened, name)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ("other", "5.4.18-test, and the dump is of Linux 5.4.17-test"),
        ("no kernel", "program"),
    ],
)
def test_one_that_is_not_the_dumps_says_why(one: str, says: str) -> None:
    guest, _ = small_guest("linear", 1)
    opened, _ = of_guest(guest, namelists_of(guest)[one])
    with pytest.raises(P2mError, match=says):
        _ = opened.kernel


def test_another_build_of_the_release_is_taken_behind_the_dumps_own() -> None:
    guest, _ = small_guest("linear", 1)
    right = MadeUpNamelist.of(guest)
    words = guest.banner.replace(b"\n", b" #2\n")
    other = MadeUpNamelist(guest.symbols, words, "other")
    opened, _ = of_guest(guest, other)
    assert opened.namelist is other
    assert opened.release == "5.4.17-test"
    assert "other: is another build of the dump's release: it has '#2'" in (
        opened.other_build or ""
    )
    assert same(opened.diagnosis, of_guest(guest)[0].diagnosis)
    both, _ = of_guest(guest, other, right)
    assert both.namelist is right and both.other_build is None


def test_another_build_with_other_addresses_is_refused() -> None:
    guest, _ = small_guest("linear", 1)
    moved = SymbolTable({**guest.symbols, "linux_banner": guest.symbols["linux_banner"] + 64})
    words = guest.banner.replace(b"\n", b" #2\n")
    opened, _ = of_guest(guest, MadeUpNamelist(moved, words, "other"))
    with pytest.raises(OtherKernelError, match=r"other: is another build of Linux 5\.4\.17-test"):
        _ = opened.kernel


def test_without_a_namelist_the_diagnosis_is_what_the_kernel_tells_xen() -> None:
    guest = talkative(P2M)
    opened = OpenedDump(MadeUpDump(guest.machine.memory(), guest.notes()))
    assert same(opened.diagnosis, opened.diagnosis_without_namelist)
    assert opened.namelist is None
    with pytest.raises(P2mError, match="no vmlinux"):
        _ = opened.kernel
    named, _ = of_guest(guest)
    assert named.diagnosis.rebuilt.leaf(2) == opened.diagnosis.rebuilt.leaf(2)


def test_the_dumps_own_namelist_is_found_behind_another_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guest, _ = small_guest("linear", 1)
    right = MadeUpNamelist.of(guest)
    other = MadeUpNamelist(guest.symbols, guest.banner.replace(b"\n", b" #2\n"), "other")
    installed: list[MadeUpNamelist] = []
    monkeypatch.setattr(opened_module, "installed_namelists", lambda release, at: iter(installed))
    opened = OpenedDump(MadeUpDump(guest.machine.memory(), guest.notes()))
    assert opened.look_for_namelist() == "5.4.17-test"
    assert opened.found is None and opened.namelists == ()
    installed[:] = [namelists_of(guest)["other"]]  # of another release
    assert opened.look_for_namelist() == "5.4.17-test"
    assert opened.found is None and opened.namelists == ()
    installed[:] = [other, right]
    assert opened.look_for_namelist() == "5.4.17-test"
    assert opened.found is right and opened.other_build is None
    assert opened.namelists == (right,)


def test_the_banner_below_entries_that_differ_in_flags_only_is_searched_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guest, _ = small_guest("linear", 1)
    memory = guest.machine.memory()
    top = bytearray(memory.pages[guest.root // PAGE])
    top[-2:] = b"\x10\x00"  # a bit that is the kernel's to use
    copy = max(memory.pages) + 1
    memory = PageMemory({**memory.pages, copy: bytes(top)})
    opened = OpenedDump(MadeUpDump(memory, guest.notes()))
    searched: list[PageTables] = []
    monkeypatch.setattr(
        opened_module,
        "find_banner",
        lambda tables, budget: searched.append(tables) or find_banner(tables, budget),  # type: ignore[func-returns-value]
    )
    banners = {opened.banner(guest.root), opened.banner(copy * PAGE)}
    assert banners == {guest.banner.rstrip(b"\n")}
    assert len(searched) == 1


# Domains


def test_a_domain_is_opened_by_its_own_hints(on_host: OnHost) -> None:
    opened, guest = on_host.opened(domain=1), on_host.guest
    assert (opened.hints.domain, opened.hints.roots) == (1, (Root(guest.root, "p2m_cr3"),))
    assert opened.kernel.root.maddr == guest.root
    assert opened.release == "6.6.6-guest"
    assert opened.diagnosis.coverage.memory == 512
    assert opened.diagnosis.coverage.covered == 0
    assert on_host.opened(domain=0).hints.roots == (Root(on_host.dom0.root, "cr3, cpu 1"),)


@pytest.mark.parametrize("name", ["hints", "published", "kernel", "diagnosis"])
def test_a_domain_that_is_not_there_is_named(on_host: OnHost, name: str) -> None:
    opened = on_host.opened(domain=7)
    with pytest.raises(P2mError, match="has no domain 7; it has 0, 1"):
        getattr(opened, name)
    assert [domain.id for domain in opened.domains] == [0, 1]


def test_dom0s_hints_are_the_notes_where_xens_memory_is_not_there_and_a_guests_are_none() -> None:
    guest, _ = small_guest("linear", 1)
    opened, _ = of_guest(guest)
    assert opened.hints == guest.hints()
    of_domain = OpenedDump(opened.dump, opened.namelists, domain=1)
    with pytest.raises(P2mError, match="no VMCOREINFO_XEN note"):
        _ = of_domain.hints


# The same as by hand


@layouts
@given(st.data())
def test_the_diagnosis_is_that_of_the_machine(layout: str, data: st.DataObject) -> None:
    p2m = data.draw(p2ms(layout, 600))
    cut = data.draw(st.sampled_from([0, p2m.leaf_total // 2, p2m.leaf_total]))
    guest, _ = guest_with(layout, p2m, cut)
    wanted = diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())
    opened, dump = of_guest(guest)
    assert same(opened.diagnosis, wanted)
    assert opened.hints == guest.hints()
    assert opened.published.leaves == wanted.published.leaves
    assert opened.kernel.value("max_pfn") == p2m.max_pfn
    tables = {table * PAGE for table in guest.space.tables}
    times = Counter(maddr for maddr, size, _ in dump.reads if size == PAGE and maddr in tables)
    assert set(times.values()) == {1}
