# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu on which the kernel crashed, for kernels that do not record it under Xen.

``Program.crashed_thread()`` of drgn looks for the cpu in ``panic_cpu``, and before Linux 4.5
(1717f2096b54), which does not have it, in ``crashing_cpu``.  Only the crash handlers that Xen
takes the place of set ``crashing_cpu`` (``native_machine_crash_shutdown()`` of
arch/x86/kernel/crash.c), so under Xen it is always 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import drgn

from ..xen.vcpus import Vcpu

__all__ = ["crashed_cpu", "give_crashed_cpu", "replace"]


def crashed_cpu(dom0: Iterable[Vcpu]) -> int | None:
    """Return the number of the vcpu that called Xen to crash the host, or None: none did."""
    for vcpu in dom0:
        if vcpu.current and any(registers.crashed for registers in vcpu.registers):
            return vcpu.number
    return None


def give_crashed_cpu(prog: drgn.Program, dom0: Iterable[Vcpu]) -> None:
    """Give drgn the number of the crashed cpu as the content of ``crashing_cpu``.

    A kernel with ``panic_cpu`` sets that under Xen too, and is left as it is.
    """
    if "panic_cpu" in prog:
        return
    cpu = crashed_cpu(dom0)
    if cpu is not None:
        with suppress(LookupError):
            replace(prog, prog["crashing_cpu"], cpu)


def replace(prog: drgn.Program, variable: drgn.Object, value: int) -> None:
    """Make drgn read ``value`` from an integer variable in place of what the dump has."""
    address, size = variable.address_, drgn.sizeof(variable)
    assert address is not None
    data = value.to_bytes(size, "little")
    prog.add_memory_segment(address, size, lambda _, count, at, physical: data[at : at + count])
