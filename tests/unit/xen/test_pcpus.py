# SPDX-License-Identifier: GPL-3.0-or-later
"""What each cpu of a Xen host ran, and the state of every domain's vcpus."""

from __future__ import annotations

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.paging import ADDRESS_MASK
from pykdump_ext.xen.domains import open_xen
from pykdump_ext.xen.pcpus import DOMID_XEN, IDLE, HostCpus, read_cpus
from pykdump_ext.xen.runstates import RUNSTATE_WORDS, Runstate, find_runstates

from ..made_up.cpus import BLOCKED, OFFLINE, RUNNABLE, RUNNING, Cpus
from ..made_up.host import Build, Host
from ..made_up.machine import PAGE

SECOND = 10**9
KERNEL = [*range(100, 117), 0xE033, 0x246, 0xFFFFC90040013B60, 0xE02B]
USER = [*range(200, 217), 0x33, 0x246, 0x7FFC0EF75DF0, 0x2B]


def state(now: int, *times: int, state: int) -> tuple[int, ...]:
    return (state, now, *times)


def three_cpus(cpus: Cpus) -> None:
    """Make dom0 with two vcpus and a guest with one; the guest, dom0's second, and nothing run."""
    host = cpus.host
    dom0, guest = host.add(0), host.add(5)
    vcpus = cpus.vcpus(
        dom0,
        [
            state(9 * SECOND, 4, 3, 2, 1, state=BLOCKED),
            state(8 * SECOND, 5, 0, 0, 7, state=RUNNING),
        ],
        [2, 1],
    )
    (other,) = cpus.vcpus(guest, [state(7 * SECOND, 1, 9, 0, 0, state=RUNNING)], [0])
    idle = cpus.idle(
        [
            state(7 * SECOND, 6, 1, 0, 0, state=RUNNABLE),
            state(8 * SECOND, 7, 1, 0, 0, state=RUNNABLE),
            state(9 * SECOND, 8, 1, 0, 0, state=RUNNING),
        ]
    )
    root = host.machine.frame()
    host.give(guest, root, level=4)
    cpus.cpu(other, root * PAGE, USER)
    cpus.cpu(vcpus[1], host.xen.root * PAGE, KERNEL, before=other)
    cpus.cpu(idle[2], host.xen.root * PAGE, KERNEL, before=vcpus[0])


def read(cpus: Cpus) -> HostCpus:
    notes = cpus.all_notes()
    return read_cpus(open_xen(cpus.host.memory(), notes), notes)


@pytest.mark.parametrize("runstate_at", [176, 216, 240, 280])
@pytest.mark.parametrize(("version", "segments"), [((4, 6), 4), ((4, 20), 4), ((4, 21), 2)])
def test_what_each_cpu_ran(version: tuple[int, int], segments: int, runstate_at: int) -> None:
    shift = 61 if version >= (4, 10) else 60  # of PGT_l4_page_table
    cpus = Cpus(Host(Build(version, type_shift=shift)), runstate_at, segments)
    three_cpus(cpus)
    found = read(cpus)
    assert found.problems == ()
    ran = [cpu.vcpu and (cpu.vcpu.domain, cpu.vcpu.number) for cpu in found.cpus]
    assert ran == [(5, 0), (0, 1), (IDLE, 2)]
    assert [cpu.owner for cpu in found.cpus] == [5, DOMID_XEN, DOMID_XEN]
    assert [cpu.partial for cpu in found.cpus] == [False] * 3
    assert [cpu.cr3 & ADDRESS_MASK for cpu in found.cpus] == cpus.host.cr3s
    entered = [cpu.registers and [*cpu.registers.words] for cpu in found.cpus]
    assert entered == [USER, KERNEL, None]
    assert {cpu.xen.rip for cpu in found.cpus} == {0xFFFF82D04021ED72}
    vcpus = [(v.domain, v.number, v.processor, v.cpu) for v in found.vcpus]
    assert vcpus == [
        (0, 0, 2, None), (0, 1, 1, 1), (5, 0, 0, 0),
        (IDLE, 0, 0, None), (IDLE, 1, 1, None), (IDLE, 2, 2, 2),
    ]  # fmt: skip
    states = [v.runstate and (v.runstate.state, v.runstate.stolen) for v in found.vcpus[:3]]
    assert states == [("blocked", 3 + 1), ("running", 7), ("running", 9)]  # also when offline
    assert found.last_change == 9 * SECOND
    first = found.vcpus[0].runstate
    assert first is not None and (first.since, first.times) == (9 * SECOND, (4, 3, 2, 1))
    assert found.cpus[1].vcpu == found.vcpus[1]


def test_an_owner_that_is_not_found_is_not_xen() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    cpus.host.cr3s[1] = cpus.host.machine.frame() * PAGE  # of nobody
    assert [cpu.owner for cpu in read(cpus).cpus] == [5, None, DOMID_XEN]


HVM = [*range(200, 217), 0, 0, 0x1000, 0]  # Xen sets no selectors


@pytest.mark.parametrize(
    ("registers", "level", "partial"),
    [(USER, 4, False), (USER, 0, True), (HVM, 0, True), (KERNEL, 0, False)],
)
def test_of_a_vcpu_that_is_not_known_to_be_pv_only_some_registers_are(
    registers: list[int], level: int, partial: bool
) -> None:
    """The monitor table that an HVM vcpu runs on is no PV page table, whoever owns it."""
    cpus = Cpus(Host())
    guest = cpus.host.add(5)
    (vcpu,) = cpus.vcpus(guest, [state(7 * SECOND, 1, 9, 0, 0, state=RUNNING)], [0])
    root = cpus.host.machine.frame()
    cpus.host.give(guest, root, level=level)
    cpus.cpu(vcpu, root * PAGE, registers)
    (cpu,) = read(cpus).cpus
    assert (cpu.owner, cpu.partial) == (5, partial)
    assert cpu.registers is not None and [*cpu.registers.words] == registers


def test_a_stack_that_ends_with_nothing_known() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    cpus.cpu(0, cpus.host.xen.root * PAGE, KERNEL)
    found = read(cpus).cpus[3]
    assert (found.vcpu, found.registers) == (None, None)
    assert found.problem == "Xen's stack of cpu note 3 does not end with a vcpu of a known domain"


def test_a_stack_of_another_cpu_is_not_taken_for_this_ones() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    idle = cpus.idle([state(9 * SECOND, 8, 1, 0, 0, state=RUNNING)])
    cpus.cpu(idle[0], cpus.host.xen.root * PAGE, KERNEL, says=2)
    assert read(cpus).cpus[3].vcpu is None


def test_a_cpu_has_xens_number_though_others_were_offline() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    (late,) = cpus.vcpus(cpus.host.add(6), [state(SECOND, 1, 0, 0, 0, state=RUNNING)], [7])
    cpus.cpu(late, cpus.host.xen.root * PAGE, KERNEL, says=7)
    last = read(cpus).cpus[3]
    assert (last.number, last.vcpu and last.vcpu.cpu) == (7, 7)


def test_a_stack_that_is_not_in_the_dump() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    notes = cpus.all_notes()
    xen = open_xen(cpus.host.memory(), notes)
    del xen.memory.pages[0x3800 + 7]  # type: ignore[attr-defined]
    found = read_cpus(xen, notes)
    assert found.cpus[0].problem is not None and "read error" in found.cpus[0].problem
    assert found.cpus[1].problem is None


def test_a_domain_without_vcpus_is_named() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    cpus.host.add(9)
    (problem,) = read(cpus).problems
    assert problem.startswith("domain 9's vcpus were not found: read error")


def test_a_list_of_domains_that_is_damaged() -> None:
    cpus = Cpus(Host())
    three_cpus(cpus)
    notes = cpus.all_notes()
    xen = open_xen(cpus.host.memory(), notes)
    xen.domain_list += 8  # the frame table's address
    with pytest.raises(P2mError, match=r"list of domains is damaged"):
        read_cpus(xen, notes)


# Runstates


@pytest.mark.parametrize(
    ("name", "now", "times", "stolen"),
    [
        ("running", 109, (101, 2, 3, 4), 6),
        ("runnable", 109, (1, 102, 3, 4), 106),
        ("blocked", 109, (1, 2, 103, 4), 6),
        ("offline", 109, (1, 2, 3, 104), 106),
        ("running", 5, (1, 2, 3, 4), 6),  # no time goes back
    ],
)
def test_the_time_in_the_state_that_lasts_is_added(
    name: str, now: int, times: tuple[int, ...], stolen: int
) -> None:
    state = Runstate(name, 9, (1, 2, 3, 4)).until(now)
    assert (state.times, state.stolen) == (times, stolen)


def test_zeros_are_no_runstate_where_all_cpus_ran_one() -> None:
    """Of four vcpus that run, other words of struct vcpu are zero, a time and zeros as well."""
    zeros = (RUNNING, 17587891077120, 0, 0, 0, 0)
    vcpus = [words(20, RUNNING, 9, n, 2, 3, 0) for n in range(4)]
    both = [(*one[:60], *zeros, *one[66:]) for one in vcpus]
    found = find_runstates(both, [True] * 4)
    assert found is not None and [one.times[0] for one in found] == [0, 1, 2, 3]


def test_a_vcpu_that_runs_came_to_it_at_some_time() -> None:
    """Of four vcpus that run, other words of the first look like a runstate; the others' are 0."""
    vcpus = [words(20, RUNNING, 9, n, 2, 3, 0) for n in range(4)]
    alike = [(RUNNING, 0x1A00000000, 0, 0, 0, 28), *[(RUNNING, 0, 0, 0, 0, 0)] * 3]
    both = [(*one[:60], *other, *one[66:]) for one, other in zip(vcpus, alike)]
    found = find_runstates(both, [True] * 4)
    assert found is not None and [one.times[0] for one in found] == [0, 1, 2, 3]


def words(at: int, *runstate: int) -> tuple[int, ...]:
    return (*[1 << 62] * at, *runstate, *[1 << 62] * (RUNSTATE_WORDS - at - len(runstate)))


def test_two_places_that_fit_equally_well_are_no_answer() -> None:
    one = words(20, RUNNING, 9, 1, 2, 3, 0)
    both = (*one[:60], RUNNING, 9, 1, 2, 3, 0, *one[66:])
    assert find_runstates([both], [True]) is None
    assert find_runstates([both, words(20, BLOCKED, 9, 1, 2, 3, 0)], [True, False]) is not None


def test_a_vcpu_that_was_never_brought_up_has_zeros() -> None:
    vcpus = [words(20, RUNNING, 9, 1, 2, 3, 0), words(20, OFFLINE, 0, 0, 0, 0, 0)]
    found = find_runstates(vcpus, [True, False])
    assert found is not None
    assert [(one.state, one.since) for one in found] == [("running", 9), ("offline", 0)]


def test_states_that_contradict_what_the_cpus_ran_are_no_answer() -> None:
    vcpus = [words(20, BLOCKED, 9, 1, 2, 3, 0), words(20, RUNNABLE, 9, 1, 2, 3, 0)]
    assert find_runstates(vcpus, [True, True]) is None
    found = find_runstates([*vcpus, words(20, OFFLINE, 9, 1, 2, 3, 0)], [False, False, True])
    assert found is not None  # that cpu was between two vcpus
    assert [one.state for one in found] == ["blocked", "runnable", "offline"]


@pytest.mark.parametrize(
    "runstate",
    [(4, 9, 1, 2, 3, 0), (RUNNING, 0, 0, 0, 0, 0), (RUNNING, 5, 1, 2, 3, 0),
     (RUNNING, 1 << 60, 1, 2, 3, 0)],
)  # fmt: skip
def test_what_is_no_runstate(runstate: tuple[int, ...]) -> None:
    assert find_runstates([words(20, *runstate)], [True]) is None
    assert find_runstates([], []) is None
