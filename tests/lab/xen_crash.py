# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kdump of a host whose Xen crashed, with dom0 alive.

Xen's key ``C``, typed on the serial console, crashes it. Other keys make Xen write more than
its console ring holds, so that the ring has wrapped.
"""

from __future__ import annotations

import re
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
from .emulator import Typed
from .matrix import MAIN, source

UP = "lab: dom0 is up"
RING = 16 << 10  # bytes
XEN = Machine(
    xen=XEN_OPTIONS.replace("loglvl=warning guest_loglvl=none/warning", "loglvl=all")
    + f" conring_size={RING >> 10}k"
)
# the console's input goes to Xen; help, event channels and domains, twice; the crash
TYPED = Typed(UP, ("\x01\x01\x01", *("h", "e", "q") * 2, "C"))
WAIT = f'echo "{UP}"\nwhile :; do sleep 1; done'


def xen_crash(kernel: str = MAIN) -> Dump:
    """Return a real dump of a host on which Xen crashed, and dom0's kernel.

    :raises Missing: the archive lacks what it is made of.
    """
    parts = source(kernel)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        tree = folder / "tree"
        tree.mkdir()
        crash_machine(parts, folder, initramfs_that_starts("", tree, folder, WAIT), XEN, TYPED)
        console = (folder / "console.log").read_text(errors="replace")
        if len("".join(re.findall(r"^\(XEN\) .*\n", console, re.MULTILINE))) < RING:
            raise RuntimeError(f"Xen wrote too little; its console ended:\n{console[-3000:]}")

    folder = product(f"xen-crash-{parts.release()}", (made_from(parts), XEN, TYPED, WAIT), make)
    return Dump(symbols, folder / "vmcore")
