# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of both died, dom0's kernel or Xen, by Xen's console and dom0's registers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .pcpus import HostCpus

__all__ = ["Death", "who_died"]

# panic() of xen/drivers/char/console.c; do_crashdump_trigger() of xen/common/kexec.c; and
# hwdom_shutdown() of xen/common/shutdown.c, before Xen 4.3 dom0_shutdown()
PANIC = re.compile(r"Panic on CPU (\d+):")
KEY = re.compile(r"'.' pressed -> triggering crashdump")
NO_KERNEL = " * no crash kernel loaded!"  # then the key does nothing
DOM0 = re.compile(r"(?:Hardware Dom\d+|Domain 0) (crashed: |shutdown: watchdog rebooting)")
STARS = "*" * 20
LINE = re.compile(r"\(XEN\) (?:\[[^\]]*\] )?")  # of Xen itself, perhaps with a time
LONGEST_PANIC = 20  # lines


@dataclass(frozen=True)
class Death:
    """What died first: ``dom0``, ``Xen``, or None if that is not clear.

    ``why`` is a sentence. ``message`` are the lines of Xen's own panic.
    """

    died: str | None
    why: str
    message: tuple[str, ...] = ()


def who_died(console: Sequence[str], host: HostCpus | None) -> Death:
    """Return what died first, dom0's kernel or Xen.

    Xen always writes its panic to its console, whatever its log level is; of a crash of dom0 it
    writes nothing there if ``loglvl=`` leaves out information (in 4.20: ``warning``).

    :param console: the lines of Xen's console; none if they were not found.
    :param host: what the cpus ran, or None if that was not found.
    """
    texts = [line[found.end() :] for line in console if (found := LINE.match(line))]
    for at, text in enumerate(texts):
        panic = PANIC.match(text)
        if panic:
            return Death("Xen", f"Xen panicked on cpu {panic[1]}", _message(texts[at + 1 :]))
        if KEY.match(text) and NO_KERNEL not in texts[at + 1 : at + 2]:
            return Death("Xen", "somebody pressed Xen's key C, which makes a dump; dom0 was alive")
        dom0 = DOM0.match(text)
        if dom0:
            crashed = dom0[1].startswith("crashed")
            why = "dom0's kernel crashed" if crashed else "dom0's watchdog timer ran out"
            return Death("dom0", f"{why}: Xen's console says so")
    for cpu in host.cpus if host else ():
        if cpu.vcpu and cpu.vcpu.domain == 0 and cpu.registers and cpu.registers.crashed:
            return Death(
                "dom0",
                "dom0's kernel crashed: its vcpu"
                f" {cpu.vcpu.number} on cpu {cpu.number} called Xen for that",
            )
    return Death(None, "nothing in Xen's console and no vcpu of dom0 shows what died first")


def _message(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines up to the row of stars that ends a panic."""
    found = []
    for line in lines[:LONGEST_PANIC]:
        if line.startswith(STARS):
            break
        found.append(line)
    return tuple(found)
