# SPDX-License-Identifier: GPL-3.0-or-later
"""What ended the host, by Xen's console and dom0's registers: dom0's kernel, Xen, or a person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .pcpus import HostCpus

__all__ = ["ASKED", "DOM0", "XEN", "Death", "who_died"]

DOM0, XEN = "dom0", "Xen"
ASKED = "nobody"  # somebody wanted a dump

# panic() of xen/drivers/char/console.c; do_crashdump_trigger() of xen/common/kexec.c; and
# hwdom_shutdown() of xen/common/shutdown.c, before Xen 4.3 dom0_shutdown()
PANIC = re.compile(r"Panic on CPU (\d+):")
KEY = re.compile(r"'.' pressed -> triggering crashdump")
NO_KERNEL = " * no crash kernel loaded!"  # then the key does nothing
CRASHED = re.compile(r"(?:Hardware Dom\d+|Domain 0) (crashed: |shutdown: watchdog rebooting)")
# __domain_crash() of xen/common/domain.c; the second form where another domain is running
KILLED = re.compile(
    r"Domain 0 (?:\(vcpu#(?P<vcpu>\d+)\) crashed|reported crashed by domain (?P<by>\d+))"
    r" on cpu#(?P<cpu>\d+):"
)
# What Xen prints right before: domain_crash() of xen/include/xen/sched.h, the console's prefix of
# what is about a vcpu of dom0, asm_domain_crash_synchronous() of xen/arch/x86/traps.c
REASON = re.compile(r"d0(?:v\d+)? |domain_crash|Unhandled ")
MOST_REASONS = 4  # lines
# What Xen prints before it shows its registers and panics by fatal_trap(), which names the
# exception only: nmi_watchdog_tick() of xen/arch/x86/nmi.c, mem_parity_error() and others of
# traps.c, unexpected_machine_check() and mc_panic() of cpu/mcheck/mce.c
CAUSE = re.compile(
    r"Watchdog timer detects that CPU\d+ is stuck!|NMI - |Uhhuh\. NMI received for unknown reason"
    r"|Unexpected Machine Check Exception|Fatal machine check: "
)
# The panics of these: with nmi=dom0 and nmi=ignore, Xen goes on after "NMI - "
CAUSED = re.compile(r"FATAL TRAP: .*(?:NMI|nmi|#MC|machine check)\b|HARDWARE ERROR")
# The panics before which Xen shows the state: fatal_trap(), do_double_fault() and others of
# arch/x86/traps.c, do_bug_frame() of common/bug.c (before Xen 4.18 in traps.c). Another panic has
# none, and one before it is of something else: "Xen WARN at", the key d, a domain that crashed
SHOWN = re.compile(
    r"FATAL |(?:GENERAL|CONTROL-FLOW) PROTECTION FAULT|DOUBLE FAULT|Xen BUG at |Assertion '"
)
MOST_BEFORE = 600  # lines of registers and stacks, of all cpus, before a panic
STATE = re.compile(r"----\[ Xen-")  # print_xen_info(): what is shown of a state begins with it
TRACE = "Xen call trace:"
# show_trace(); with R, S or F for how it was found since 4.13 at the latest: by a register, a
# frame, or only as a word on the stack, which may be left from before. A static function has its
# file before it
CALL = re.compile(r" +\[<[0-9a-f]+>\] (?:(?P<by>[RSF]) )?(?:\S+#)?(?P<name>[A-Za-z_][\w.]*)\+")
STARS = "*" * 20
LINE = re.compile(r"\(XEN\) (?:\[[^\]]*\] )?")  # of Xen itself, perhaps with a time
LONGEST_PANIC = 20  # lines
LONGEST_REPORT = 100  # lines of registers, Xen's stack and its call trace, before a panic
LONGEST_STATE = 60  # lines of registers and of the guest's stack


@dataclass(frozen=True)
class Death:
    """What died first: ``DOM0``, ``XEN``, ``ASKED`` for a dump that was asked for; None: not clear.

    ``why`` is a sentence on how that is known. ``headline`` are Xen's words for what killed Xen
    or, where Xen killed dom0, dom0. ``message`` are the lines that Xen wrote of it, ``functions``
    where Xen died, and the callers. ``vcpu`` is dom0's vcpu that died, if it is known.
    """

    died: str | None
    why: str
    headline: str | None = None
    message: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    vcpu: int | None = None


def who_died(console: Sequence[str], host: HostCpus | None) -> Death:
    """Return what died first, dom0's kernel or Xen.

    Xen always writes its panic to its console, whatever its log level is; of a crash of dom0 it
    writes nothing there if ``loglvl=`` leaves out information (in 4.20: ``warning``).

    :param console: the lines of Xen's console; none if they were not found.
    :param host: what the cpus ran, or None if that was not found.
    """
    texts = [line[found.end() :] for line in console if (found := LINE.match(line))]
    for at, text in enumerate(texts):
        if PANIC.match(text):
            return _panic(texts, at)
        if KEY.match(text) and NO_KERNEL not in texts[at + 1 : at + 2]:
            return Death(ASKED, "until then, Xen's console reports no death of dom0 or of Xen")
        if KILLED.match(text):
            return _killed(texts, at)
        dom0 = CRASHED.match(text)
        if dom0 and dom0[1].startswith("crashed"):
            return Death(DOM0, "dom0's kernel crashed: Xen's console says so", vcpu=_caller(host))
        if dom0:
            why = "Xen's console says so: nothing in dom0 set that timer again in time"
            return Death(DOM0, why, "dom0's watchdog timer in Xen ran out")
    vcpu = _caller(host)
    if vcpu is not None:
        why = f"dom0's kernel crashed: its vcpu {vcpu} called Xen for that"
        return Death(DOM0, why, vcpu=vcpu)
    return Death(None, "nothing in Xen's console and no vcpu of dom0 shows what died first")


def _caller(host: HostCpus | None) -> int | None:
    """Return dom0's vcpu that called Xen to crash the host, or None."""
    for cpu in host.cpus if host else ():
        dom0 = cpu.vcpu is not None and cpu.vcpu.domain == 0 and not cpu.partial
        if dom0 and cpu.vcpu and cpu.registers and cpu.registers.crashed:
            return cpu.vcpu.number
    return None


def _panic(texts: list[str], at: int) -> Death:
    """Return the death of Xen, by the line with which its panic begins."""
    panic = PANIC.match(texts[at])
    message = tuple(_until(texts[at + 1 : at + 1 + LONGEST_PANIC], STARS))
    before = range(at - 1, max(at - MOST_BEFORE, 0) - 1, -1)
    said = message[0] if message else "it panicked"
    cause = state = None
    if CAUSED.match(said):
        cause = next((line for line in before if CAUSE.match(texts[line])), None)
    if SHOWN.match(said):
        state = next((line for line in before if STATE.match(texts[line])), None)
    # of several cpus whose state is shown, the first is the one that panics
    shown = state if cause is None else cause
    trace = texts[at if shown is None else shown : at]
    wrote = [*_until(trace[:LONGEST_REPORT], STARS)]
    if len(trace) > LONGEST_REPORT:
        wrote.append(f"({len(trace) - LONGEST_REPORT:,} lines are left out)")
    headline = said if cause is None else f"{texts[cause]} ({said})"
    why = f"Xen panicked on cpu {panic[1] if panic else '?'}"
    return Death(XEN, why, headline, (*wrote, *message), tuple(_calls(trace)))


def _killed(texts: list[str], at: int) -> Death:
    """Return the death of dom0 by Xen, by the line with which Xen reports it."""
    found = KILLED.match(texts[at])
    assert found is not None
    start = at
    while start and at - start < MOST_REASONS and REASON.match(texts[start - 1]):
        start -= 1
    message = tuple(_until(texts[start : at + LONGEST_STATE], "Hardware Dom", "Domain 0 crashed: "))
    why = f"because of an error of its vcpu {found['vcpu']}"
    if found["by"]:
        why = f"because domain {found['by']} reported that it had crashed"
    headline = f"Xen crashed it {why}"
    if start < at:
        headline += f": {texts[start]}"
    return Death(
        DOM0,
        f"Xen's console says so: {texts[at].rstrip(':')}",
        headline,
        message,
        vcpu=int(found["vcpu"]) if found["vcpu"] else None,
    )


def _until(texts: Sequence[str], *ends: str) -> Iterator[str]:
    """Yield lines up to one that begins with one of ``ends``."""
    for line in texts:
        if line.startswith(ends):
            return
        yield line


def _calls(texts: Sequence[str]) -> Iterator[str]:
    """Yield the functions of the first call trace of Xen, innermost first, without guesses."""
    started = False
    for text in texts:
        found = CALL.match(text)
        if started and not found:
            return
        if found and started and found["by"] != "S":
            yield found["name"]
        started = started or text.startswith(TRACE)
