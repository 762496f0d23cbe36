# SPDX-License-Identifier: GPL-3.0-or-later
"""What the package reads in a made-up guest."""

from __future__ import annotations

from pykdump_ext.linux.kernel import Kernel, Root
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose

from .guest import Guest


def kernel_of(guest: Guest) -> Kernel:
    return Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))


def diagnosed(guest: Guest, *cr3s: int) -> Diagnosis:
    memory = guest.machine.memory()
    return diagnose(memory, guest.symbols, guest.banner, guest.hints(*cr3s))
