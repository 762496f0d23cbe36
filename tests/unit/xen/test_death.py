# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of both died, and Xen's version in full."""

from __future__ import annotations

import struct

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.notes import Note
from pykdump_ext.xen.death import who_died
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
    assert died(*KEY)[0] == "Xen"
    assert died(DOM0) == ("dom0", "dom0's kernel crashed: Xen's console says so")
    assert died("(XEN) Domain 0 crashed: Executing crash image")[0] == "dom0"  # before 4.3
    watchdog = "(XEN) Hardware Dom0 shutdown: watchdog rebooting machine"
    assert died(watchdog) == ("dom0", "dom0's watchdog timer ran out: Xen's console says so")


def test_the_words_of_the_panic() -> None:
    assert who_died(PANIC, None).message == (
        "FATAL PAGE FAULT", "[error_code=0000]", "Faulting linear address: 0000000000000000",
    )  # fmt: skip


def test_what_did_not_end_the_host_is_passed_over() -> None:
    alive = [KEY[0], "(XEN)  * no crash kernel loaded!", "(d1) Panic on CPU 0:"]
    assert who_died(alive, None).died is None
    assert who_died([*alive, DOM0], None).died == "dom0"
    assert who_died(["(XEN) d1v0 Panic on CPU 0:"], None).died is None
    assert who_died([], None).died is None


@pytest.mark.parametrize(
    ("domain", "rax", "rdi", "died"),
    [(0, 29, 2, "dom0"), (0, 37, 0, "dom0"), (0, 29, 1, None), (1, 29, 2, None)],
)
def test_dom0s_registers_say_it(domain: int, rax: int, rdi: int, died: str | None) -> None:
    words = [0] * REGISTERS
    words[10], words[14] = rax, rdi
    vcpu = DomainVcpu(domain, 2, 0, 1, 1)
    registers = Registers(tuple(words))
    host = HostCpus((Pcpu(1, registers, 0, 0, vcpu, registers),), (vcpu,), ())
    death = who_died(BOOT, host)
    assert death.died == died
    if died:
        assert death.why == "dom0's kernel crashed: its vcpu 2 on cpu 1 called Xen for that"


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
