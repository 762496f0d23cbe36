# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer that a report begins with, and what it says of cpus and vcpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from pykdump_ext.parts import happened
from pykdump_ext.parts.blocks import Block, Lines, Paragraph, Table
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.cpus import Cpus, owner
from pykdump_ext.parts.happened import answer, functions
from pykdump_ext.parts.last_words import LastWords, last_words
from pykdump_ext.xen.death import ASKED, DOM0, XEN, Death
from pykdump_ext.xen.pcpus import DOMID_XEN, DomainVcpu, HostCpus, Pcpu
from pykdump_ext.xen.runstates import Runstate
from pykdump_ext.xen.vcpus import REGISTERS, Registers

from .test_last_words import FATAL, FIRST, SECOND, SYSRQ

OOPS = last_words([*FIRST, *SECOND, FATAL])
PANIC = last_words(SYSRQ)
SURVIVED = last_words([*FIRST, "[ 99.0] it goes on"])
NOTHING = last_words([])
HEAD = (
    "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6ba3: 0000 [#2]"
    " PREEMPT SMP NOPTI, RIP: __register_nls+0x5/0x90"
)
EARLIER = (
    "An earlier oops, survived: BUG: kernel NULL pointer dereference, address: 0000000000000010,"
    " RIP: lab_reads+0x0/0x3 [nls_cp437] (task insmod, PID 129)"
)
DIED = Death(DOM0, "dom0's kernel crashed: Xen's console says so")
KILLED = Death(DOM0, "Xen's console says so: Domain 0 (vcpu#1) crashed", "Xen crashed it", vcpu=1)
OF_XEN = Death(XEN, "Xen panicked on cpu 3", "FATAL PAGE FAULT", ("FATAL",), ("do_softirq",))
KEY = Death(ASKED, "until then, Xen's console reports no death of dom0 or of Xen")


@pytest.mark.parametrize(
    ("death", "words", "said"),
    [
        (DIED, OOPS, [f"dom0 died: {HEAD}", f"{DIED.why}.", EARLIER]),
        (
            DIED,
            PANIC,
            ["dom0 died: Kernel panic - not syncing: sysrq triggered crash", f"{DIED.why}."],
        ),
        (DIED, SURVIVED, ["dom0 died.", f"{DIED.why}.", EARLIER]),
        (DIED, None, ["dom0 died.", f"{DIED.why}."]),
        (KILLED, NOTHING, ["dom0 died: Xen crashed it", f"{KILLED.why}."]),
        (
            OF_XEN,
            OOPS,
            [
                "Xen died: FATAL PAGE FAULT",
                "Xen panicked on cpu 3.",
                f"dom0's log has, from before: {HEAD}",
                EARLIER,
            ],
        ),
        (
            KEY,
            NOTHING,
            [
                "A crash dump was asked for at Xen's console (key C).",
                "Until then, Xen's console reports no death of dom0 or of Xen.",
            ],
        ),
        (
            Death(None, "nothing shows it"),
            NOTHING,
            ["It is not clear whether dom0 or Xen died.", "Nothing shows it."],
        ),
    ],
)  # fmt: skip
def test_the_report_begins_with_the_answer(
    death: Death, words: LastWords | None, said: list[str]
) -> None:
    assert [*answer(death, words)] == said


def test_why_the_cause_is_not_known_is_in_the_first_sentence() -> None:
    assert [*answer(DIED, None, "no vmlinux was given", "64 bytes are missing")][:2] == [
        "dom0 died; why is not known: no vmlinux was given",
        "The dump is not whole: 64 bytes are missing.",
    ]
    assert next(answer(KILLED, None, "no vmlinux was given")).startswith("dom0 died: ")
    assert next(answer(Death(None, "x"), None, "no vmlinux was given")) == (
        "It is not clear whether dom0 or Xen died."
    )


STACKS = [Lines("Stack", ["#0  xen_hypercall_pv (a.S:1)", "#1  panic (b.c:2)", "#2  who (c.c:3)"])]


@pytest.mark.parametrize(
    ("death", "words", "stacks", "first"),
    [
        (DIED, OOPS, STACKS, "__register_nls"),
        (DIED, PANIC, STACKS, "sysrq_handle_crash"),
        (DIED, NOTHING, STACKS, "who"),  # the log does not have it
        (DIED, None, [], None),
        (KILLED, OOPS, STACKS, "who"),  # what the log has is older
        (OF_XEN, OOPS, STACKS, "do_softirq"),
        (KEY, OOPS, STACKS, None),
    ],
)
def test_where_it_died(
    death: Death, words: LastWords | None, stacks: list[Lines], first: str | None
) -> None:
    assert next(iter(functions(death, words, stacks)), None) == first


WHOLE = SimpleNamespace(dump=SimpleNamespace(incomplete=None))


def test_a_dom0_that_panicked_died_whatever_xen_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Xen's console and the registers of a PVH dom0 may show nothing."""
    monkeypatch.setattr(happened, "stack_blocks", lambda *of: [])
    monkeypatch.setattr(happened.Happened, "_facts", lambda *of: [])

    def tried(what: str, find: Callable[[], object]) -> object:
        return find() if what in ("what dom0's kernel knows", "dom0's last words") else None

    case = cast(
        Case, SimpleNamespace(tried=tried, prog=object(), log=SYSRQ, notes=[], opened=WHOLE)
    )
    first, second, *_ = happened.Happened().blocks(case)
    assert first == Paragraph("dom0 died: Kernel panic - not syncing: sysrq triggered crash")
    assert isinstance(second, Paragraph)
    assert second.text.startswith("dom0's log has its panic; neither Xen's console nor")


@pytest.mark.parametrize(
    ("death", "title"),
    [
        (DIED, "What dom0's log has of it"),
        (Death(None, "nothing shows it"), "What dom0's log has of it"),
        (OF_XEN, "The last trouble in dom0's log"),
        (KEY, "The last trouble in dom0's log"),
        (KILLED, "The last trouble in dom0's log"),
    ],
)
def test_an_oops_that_killed_nobody_is_not_what_the_log_has_of_it(
    death: Death, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happened, "who_died", lambda console, host: death)
    monkeypatch.setattr(happened, "stack_blocks", lambda *of: [])
    monkeypatch.setattr(happened.Happened, "_facts", lambda *of: [])
    case = SimpleNamespace(tried=lambda what, find: find(), prog=object(), log=FIRST, notes=[])
    case.blocked = [], 0
    case.opened = WHOLE
    case.console, case.host = SimpleNamespace(lines=()), None
    shown = [one for one in happened.Happened().blocks(cast(Case, case)) if isinstance(one, Lines)]
    assert [one.lines[0] for one in shown if one.title == title] == [FIRST[0]]


# Cpus


def registers() -> Registers:
    return Registers(tuple(range(0x100, 0x100 + REGISTERS)))


def blocks(host: HostCpus) -> Iterator[Block]:
    case = cast(Case, SimpleNamespace(host=host, notes=[], tried=lambda what, find: None))
    return Cpus().blocks(case)


def test_of_a_vcpu_that_may_be_hvm_only_what_xen_has_is_shown() -> None:
    vcpus = [DomainVcpu(n, 0, 0, n, n) for n in (3, 4)]
    cpus = [
        Pcpu(n, registers(), 0x1000, None, vcpu, registers(), partial=n == 4)
        for n, vcpu in zip((3, 4), vcpus)
    ]
    ran, _, whole, part = blocks(HostCpus(tuple(cpus), tuple(vcpus), ()))
    assert isinstance(ran, Table) and isinstance(whole, Lines) and isinstance(part, Lines)
    assert [row[2:4] for row in ran.rows] == [["110", "113"], ["-", "-"]]
    assert [row[-1] for row in ran.rows] == ["not found"] * 2
    names = " ".join(" ".join(whole.lines).split()[::2])
    assert names.startswith("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax ")
    assert names.endswith(" rip cs rflags rsp ss")
    shown = " ".join(part.lines).split()
    assert " ".join(shown[::2]) == "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rcx rdx rsi rdi"
    assert shown[1::2] == [f"{0x100 + n:016x}" for n in (*range(10), 11, 12, 13, 14)]
    assert "not known to be PV" in part.title and "PV" not in whole.title


def test_the_owner_of_a_page_table_in_words() -> None:
    assert [owner(one) for one in (0, 7, DOMID_XEN, None)] == [
        "domain 0", "domain 7", "Xen", "not found",
    ]  # fmt: skip


def test_seconds_are_those_up_to_the_last_change_of_any_vcpu() -> None:
    second = 10**9
    states = [
        Runstate("running", 7 * second, (1 * second, 2 * second, 3 * second, 1 * second)),
        Runstate("offline", 9 * second, (2 * second, 3 * second, 2 * second, 2 * second)),
    ]
    vcpus = [DomainVcpu(0, n, 0, n, None, state) for n, state in enumerate(states)]
    _, table, said = blocks(HostCpus((), tuple(vcpus), ()))
    assert isinstance(table, Table) and isinstance(said, Paragraph)
    assert table.columns[4:] == ("running", "runnable", "blocked", "offline", "steal")
    assert [row[4:] for row in table.rows] == [[3, 2, 3, 1, 3], [2, 3, 2, 2, 5]]
    assert "up to 9.000 s after Xen's start" in said.text
    assert "The dump does not have Xen's time at the crash" in said.text
