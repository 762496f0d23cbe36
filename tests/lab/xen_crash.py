# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kdumps of hosts whose Xen crashed, with dom0 alive.

Xen's key ``C``, typed on the serial console, crashes it. Other keys make Xen write more than
its console ring holds, so that the ring has wrapped.

An NMI that nobody can explain makes Xen panic: that of the emulator's monitor is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .cache import product
from .dump import (
    XEN_OPTIONS,
    Dump,
    Machine,
    crash_machine,
    initramfs_that_starts,
    made_from,
)
from .emulator import Monitored, Typed
from .matrix import MAIN, source

UP = "lab: dom0 is up"
RING = 16 << 10  # bytes
XEN = Machine(
    xen=XEN_OPTIONS.replace("loglvl=warning guest_loglvl=none/warning", "loglvl=all")
    + f" conring_size={RING >> 10}k"
)
# the console's input goes to Xen; help, event channels and domains, twice; the crash
TYPED = Typed(UP, ("\x01\x01\x01", *("h", "e", "q") * 2, "C"))
PANICS = Machine(xen=f"{XEN_OPTIONS} nmi=fatal")
TYPED_NMI = Monitored(UP, ("\x01c", "nmi\n"))
WAIT = f'echo "{UP}"\nwhile :; do sleep 1; done'


def xen_crash(kernel: str = MAIN) -> Dump:
    """Return a real dump of a host on which Xen crashed, and dom0's kernel.

    :raises Missing: the archive lacks what it is made of.
    """

    def check(console: str) -> bool:
        return len("".join(re.findall(r"^\(XEN\) .*\n", console, re.MULTILINE))) >= RING

    return _made("xen-crash", kernel, XEN, TYPED, check)


def xen_panic(kernel: str = MAIN) -> Dump:
    """Return a real dump of a host on which Xen panicked, and dom0's kernel.

    :raises Missing: the archive lacks what it is made of.
    """
    return _made("xen-panic", kernel, PANICS, TYPED_NMI, lambda console: "Panic on CPU" in console)


def _made(
    name: str, kernel: str, machine: Machine, typed: Typed, check: Callable[[str], bool]
) -> Dump:
    parts = source(kernel)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        tree = folder / "tree"
        tree.mkdir()
        crash_machine(parts, folder, initramfs_that_starts("", tree, folder, WAIT), machine, typed)
        console = (folder / "console.log").read_text(errors="replace")
        if not check(console):
            raise RuntimeError(f"Xen wrote too little; its console ended:\n{console[-3000:]}")

    folder = product(f"{name}-{parts.release()}", (made_from(parts), machine, typed, WAIT), make)
    return Dump(symbols, folder / "vmcore")
