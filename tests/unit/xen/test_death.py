# SPDX-License-Identifier: GPL-3.0-or-later
"""What ended the host, by the texts of Xen's console; and Xen's version in full."""

from __future__ import annotations

import struct

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.notes import Note
from pykdump_ext.xen.death import ASKED, who_died
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO
from pykdump_ext.xen.pcpus import DomainVcpu, HostCpus, Pcpu
from pykdump_ext.xen.vcpus import REGISTERS, Registers
from pykdump_ext.xen.version import read_version

from ..made_up.host import Host
from ..made_up.machine import PAGE

# As Xen 4.17 prints them
BOOT = [
    "(XEN) Xen version 4.17.7 (Debian) (me@host) (gcc 12) debug=n Wed Nov  4",
    "(XEN) Brought up",
]
PANIC = """
(XEN) ----[ Xen-4.17.7  x86_64  debug=n  Not tainted ]----
(XEN) CPU:    3
(XEN) RIP:    e008:[<ffff82d040239ab4>] common/kexec.c#kexec_reads+0x14/0x38
(XEN) Xen call trace:
(XEN)    [<ffff82d040239ab4>] R common/kexec.c#kexec_reads+0x14/0x38
(XEN)    [<ffff82d04022b0f0>] F arch/x86/keyhandler.c#handle_keypress+0x70/0xe0
(XEN)    [<ffff82d0402fa680>] S arch/x86/domain.c#idle_loop+0/0x130
(XEN)    [<ffff82d04024a7e0>] F do_softirq+0x13/0x20
(XEN)
(XEN) ****************************************
(XEN) Panic on CPU 3:
(XEN) FATAL PAGE FAULT
(XEN) [error_code=0000]
(XEN) Faulting linear address: 0000000000000000
(XEN) ****************************************
(XEN)
(XEN) Reboot in five seconds...
(XEN) Executing kexec image on cpu3
(XEN) Shot down all CPUs
""".strip().splitlines()
KEY = ["(XEN) 'C' pressed -> triggering crashdump", "(XEN) Executing kexec image on cpu0"]
DOM0 = "(XEN) Hardware Dom0 crashed: Executing kexec image on cpu2"


def with_time(line: str, time: str) -> str:
    return line.replace("(XEN) ", f"(XEN) {time}", 1)


@pytest.mark.parametrize("time", ["", "[2026-11-26 12:44:24.123] ", "[   12.345678] "])
def test_xens_console_says_it(time: str) -> None:
    def died(*lines: str) -> tuple[str | None, str]:
        death = who_died([*BOOT, *(with_time(line, time) for line in lines)], None)
        return death.died, death.why

    assert died(*PANIC) == ("Xen", "Xen panicked on cpu 3")
    assert died(*KEY)[0] == ASKED
    assert died(DOM0) == ("dom0", "dom0's kernel crashed: Xen's console says so")
    assert died("(XEN) Domain 0 crashed: Executing crash image")[0] == "dom0"  # before 4.3
    watchdog = "(XEN) Hardware Dom0 shutdown: watchdog rebooting machine"
    death = who_died([watchdog], None)
    assert (death.died, death.headline) == ("dom0", "dom0's watchdog timer in Xen ran out")


def test_the_words_of_the_panic_and_where_xen_died() -> None:
    death = who_died(PANIC, None)
    # all that Xen wrote, from its registers on
    stars = next(at for at, line in enumerate(PANIC) if "****" in line)
    wrote = [*PANIC[: stars - 1], *PANIC[stars + 2 : stars + 5]]
    assert [f"(XEN) {line}" for line in death.message] == wrote
    assert death.headline == "FATAL PAGE FAULT"
    # idle_loop is marked S: a word on the stack that may be left from before
    assert death.functions == ("kexec_reads", "handle_keypress", "do_softirq")


def test_a_long_report_of_xen_is_cut_and_its_panic_is_not() -> None:
    more = [f"(XEN)    {at:016x}" for at in range(300)]
    death = who_died([*PANIC[:3], *more, *PANIC[3:]], None)
    assert death.message[0].startswith("----[ Xen-4.17.7")
    assert death.message[100:102] == ("(209 lines are left out)", "FATAL PAGE FAULT")
    assert death.functions[:1] == ("kexec_reads",)


def panicked(*words: str, before: str = "", trace: str = "R do_softirq+0x13/0x20") -> list[str]:
    """What Xen prints: the cause, its state, the state of another cpu, and the panic."""
    state = ["----[ Xen-4.17.7  x86_64  debug=n  Not tainted ]----", "Xen call trace:"]
    other = ["*** Dumping CPU0 host state: ***", *state, "   [<ffff82d0402a0000>] R idles+0x1/0x2"]
    stars = "*" * 40
    lines = [before, *state, f"   [<ffff82d040239ab4>] {trace}", "", *(other if before else [])]
    return [f"(XEN) {line}" for line in (*lines, stars, "Panic on CPU 3:", *words, stars)]


@pytest.mark.parametrize(
    ("console", "headline"),
    [
        (
            panicked(
                "FATAL TRAP: vec 2, NMI[0000] IN INTERRUPT CONTEXT",
                before="Watchdog timer detects that CPU3 is stuck!",
            ),
            "Watchdog timer detects that CPU3 is stuck!"
            " (FATAL TRAP: vec 2, NMI[0000] IN INTERRUPT CONTEXT)",
        ),
        (
            panicked("FATAL TRAP: vec 2, NMI[0000]", before="NMI - PCI system error (SERR)"),
            "NMI - PCI system error (SERR) (FATAL TRAP: vec 2, NMI[0000])",
        ),
        (
            panicked("HARDWARE ERROR", before="Fatal machine check: MCE: No CPU found valid MCE"),
            "Fatal machine check: MCE: No CPU found valid MCE (HARDWARE ERROR)",
        ),
        (
            panicked(
                "FATAL TRAP: vec 2, NMI[0000]", before="Uhhuh. NMI received for unknown reason 31."
            ),
            "Uhhuh. NMI received for unknown reason 31. (FATAL TRAP: vec 2, NMI[0000])",
        ),
        (
            panicked("FATAL TRAP: vec 18, #MC[0000]", before="Unexpected Machine Check Exception"),
            "Unexpected Machine Check Exception (FATAL TRAP: vec 18, #MC[0000])",
        ),
        (panicked("FATAL TRAP: vec 6, #UD[0000]"), "FATAL TRAP: vec 6, #UD[0000]"),
        (panicked("DOUBLE FAULT -- system shutdown"), "DOUBLE FAULT -- system shutdown"),
        (panicked("Xen BUG at mm.c:1234"), "Xen BUG at mm.c:1234"),
        (
            panicked("Assertion '!in_irq()' failed at common/softirq.c:30"),
            "Assertion '!in_irq()' failed at common/softirq.c:30",
        ),
        # Xen 4.9 and older
        (
            panicked("FATAL TRAP: vector = 6 (invalid opcode)", trace="do_softirq+0x13/0x20"),
            "FATAL TRAP: vector = 6 (invalid opcode)",
        ),
    ],
)
def test_each_way_in_which_xen_dies(console: list[str], headline: str) -> None:
    death = who_died([*BOOT, *console], None)
    assert (death.died, death.why) == ("Xen", "Xen panicked on cpu 3")
    assert death.headline == headline
    assert death.functions == ("do_softirq",)  # and not that of the other cpu


STARS = f"(XEN) {'*' * 40}"
WARN = ["(XEN) Xen WARN at common/page_alloc.c:1393", *PANIC[: PANIC.index(STARS)]]
KEY_D = [
    "(XEN) 'd' pressed -> dumping registers",
    "(XEN)",
    "(XEN) *** Dumping CPU3 host state: ***",
    *WARN[1:],
]


@pytest.mark.parametrize("before", [WARN, KEY_D, [*WARN, "(XEN) d1v0 Unhandled: vec 6, #UD[0000]"]])
def test_the_state_before_a_panic_that_shows_none_is_of_something_else(before: list[str]) -> None:
    said = "Could not protect TXT memory regions"  # as on the way out of S3
    panic = [STARS, "(XEN) Panic on CPU 0:", f"(XEN) {said}", STARS]
    death = who_died([*BOOT, *before, *panic], None)
    assert (death.headline, death.functions) == (said, ())
    # one that shows its own is not mistaken
    death = who_died([*BOOT, *before, *panicked("Xen BUG at mm.c:1234")], None)
    assert death.functions == ("do_softirq",)


def test_what_xen_went_on_after_is_no_cause() -> None:
    """With ``nmi=dom0``, the default of a release build, Xen tells dom0 of it, and goes on."""
    console = ["(XEN) NMI - PCI system error (SERR)", *panicked("Xen BUG at mm.c:1234")]
    death = who_died([*BOOT, *console], None)
    assert (death.headline, death.functions) == ("Xen BUG at mm.c:1234", ("do_softirq",))


# As Xen 4.17 prints it of a dom0 without exception handlers
KILLED = """
(XEN) d0v1 Unhandled: vec 6, #UD[ffffffff]
(XEN) domain_crash_sync called from entry.S: fault at ffff82d040204b78 x86_64/entry.S
(XEN) Domain 0 (vcpu#1) crashed on cpu#2:
(XEN) ----[ Xen-4.17.7  x86_64  debug=n  Tainted:   C    ]----
(XEN) RIP:    e033:[<ffffffffc021907e>]
(XEN) RFLAGS: 0000000000000246   EM: 0   CONTEXT: pv guest (d0v1)
(XEN) Hardware Dom0 crashed: Executing kexec image on cpu2
""".strip().splitlines()


def test_a_dom0_that_xen_crashed() -> None:
    death = who_died([*BOOT, *KILLED], None)
    assert (death.died, death.vcpu) == ("dom0", 1)
    assert death.headline == (
        "Xen crashed it because of an error of its vcpu 1: d0v1 Unhandled: vec 6, #UD[ffffffff]"
    )
    assert death.why == "Xen's console says so: Domain 0 (vcpu#1) crashed on cpu#2"
    assert [f"(XEN) {line}" for line in death.message] == KILLED[:-1]
    # Xen's log level may leave the reason out
    death = who_died([*BOOT, *KILLED[2:]], None)
    assert death.headline == "Xen crashed it because of an error of its vcpu 1"
    other = ["(XEN) Domain 0 reported crashed by domain 32754 on cpu#3:", DOM0]
    death = who_died([*BOOT, *other], None)
    assert death.headline == "Xen crashed it because domain 32754 reported that it had crashed"
    assert (death.died, death.vcpu, death.message) == ("dom0", None, (other[0][6:],))
    assert who_died(["(XEN) Domain 3 (vcpu#1) crashed on cpu#2:"], None).died is None


def test_what_xen_does_without_a_dump_is_no_death() -> None:
    for text in ("halted: halting machine", "shutdown: rebooting machine"):
        assert who_died([*BOOT, f"(XEN) Hardware Dom0 {text}"], None).died is None


def test_what_did_not_end_the_host_is_passed_over() -> None:
    alive = [KEY[0], "(XEN)  * no crash kernel loaded!", "(d1) Panic on CPU 0:"]
    assert who_died(alive, None).died is None
    assert who_died([*alive, DOM0], None).died == "dom0"
    assert who_died(["(XEN) d1v0 Panic on CPU 0:"], None).died is None
    assert who_died([], None).died is None


def in_hypercall(rax: int, rdi: int, rip: int = 0xFFFFFFFF81A442B5, **others: int) -> Registers:
    """The registers of a kernel behind the instruction ``syscall``."""
    words = [0] * REGISTERS
    words[10], words[14], words[16], words[18] = rax, rdi, rip, 0x246
    words[11], words[6] = others.get("rcx", rip), others.get("r11", 0x246)
    return Registers(tuple(words))


@pytest.mark.parametrize(
    ("domain", "registers", "partial", "died"),
    [
        (0, in_hypercall(29, 2), False, "dom0"),
        (0, in_hypercall(37, 0), False, "dom0"),
        (0, in_hypercall(29, 1), False, None),
        (1, in_hypercall(29, 2), False, None),
        (0, in_hypercall(29, 2), True, None),  # of an HVM dom0 they mean nothing
        # a program's shmget(2, ...)
        (0, in_hypercall(29, 2, 0x47FBE9), False, None),
        # a kernel that an interrupt stopped has any values in its registers
        (0, in_hypercall(29, 2, rcx=7), False, None),
        (0, in_hypercall(29, 2, r11=7), False, None),
    ],
)
def test_dom0s_registers_say_it(
    domain: int, registers: Registers, partial: bool, died: str | None
) -> None:
    vcpu = DomainVcpu(domain, 2, 0, 1, 1)
    cpu = Pcpu(1, registers, 0, 0, vcpu, registers, partial=partial)
    host = HostCpus((cpu,), (vcpu,), ())
    death = who_died(BOOT, host)
    assert (death.died, death.vcpu) == (died, 2 if died else None)
    if died:
        assert death.why == "dom0's kernel crashed: its vcpu 2 called Xen for that"
    assert who_died([*BOOT, DOM0], host).vcpu == (2 if died else None)


# Xen's version


def note(*words: int) -> Note:
    return Note("Xen", XEN_ELFNOTE_CRASH_INFO, struct.pack(f"<{len(words)}Q", *words))


def test_xens_version_in_full() -> None:
    host = Host()
    host.add(0)
    mfn = host.variables
    texts = [b".7-rc\x1b", b"Thu Jan 1 git:abc", b"gcc 12", b"Wed Nov 4 16:52:28 2026", b"16:52:28"]
    places = []
    for number, text in enumerate(texts):
        at = 0x800 + number * 64
        host.machine.pages[mfn][at : at + len(text)] = text
        places.append(mfn * PAGE + at)
    build_id = bytes(range(20))
    host.machine.pages[mfn][0xC00:0xC24] = struct.pack("<3I", 4, 20, 3) + b"GNU\0" + build_id
    xen = host.open()
    found = read_version(xen.memory, [note(4, 17, *places, 0b1001, 0, 0)], xen, BOOT)
    assert found.version == "4.17.7-rc\\x1b"
    assert (found.changeset, found.compiler) == ("Thu Jan 1 git:abc", "gcc 12")
    assert found.built == "Wed Nov 4 16:52:28 2026"
    assert found.banner == BOOT[0].removeprefix("(XEN) ")
    assert found.build_id == build_id.hex()
    assert found.taints == ("synchronous console", "forced emulation")


def test_a_version_of_which_little_is_in_the_dump() -> None:
    host = Host()
    nowhere = 0x7FFFF000
    found = read_version(host.memory(), [note(4, 2, *[nowhere] * 5, 1, 0, 0)], None)
    assert found.version == "4.2"
    assert (found.changeset, found.compiler, found.built, found.banner) == (None,) * 4
    assert (found.build_id, found.taints) == (None, None)
    with pytest.raises(P2mError, match=r"no whole XEN_ELFNOTE_CRASH_INFO note"):
        read_version(host.memory(), [note(4, 17)], None)
