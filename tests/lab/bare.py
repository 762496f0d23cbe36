# SPDX-License-Identifier: GPL-3.0-or-later
"""A dom0's kernel and initramfs booted without Xen: the oracle for tools that do not know Xen."""

from __future__ import annotations

from .cache import product
from .dump import LINUX_OPTIONS, MACHINE_OPTIONS, Dump, Machine, crash_machine, made_from
from .matrix import MAIN, source

CONSOLE = LINUX_OPTIONS.replace("console=hvc0 earlyprintk=xen", "console=ttyS0")
MEMORY = {"1536M": "892M"}  # dom0's, and as much for the crash kernel as Xen keeps for it
HARDWARE = tuple(MEMORY.get(option, option) for option in MACHINE_OPTIONS)
BARE = Machine(HARDWARE, None, f"{CONSOLE} crashkernel=192M")


def bare(kernel: str = MAIN) -> Dump:
    """Return a real dump of a kernel of the matrix, with dom0's memory and cpus, without Xen.

    :raises Missing: the archive lacks what it is made of.
    """
    parts = source(kernel)
    symbols = parts.vmlinux()
    folder = product(
        f"bare-{parts.release()}",
        (made_from(parts), BARE),
        lambda folder: crash_machine(parts, folder, machine=BARE),
    )
    return Dump(symbols, folder / "vmcore")
