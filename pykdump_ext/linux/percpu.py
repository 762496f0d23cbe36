# SPDX-License-Identifier: GPL-3.0-or-later
"""Per-cpu variables: which symbols are such, and where each cpu has its own.

The symbols lie between ``__per_cpu_start`` and ``__per_cpu_end``: from 0 on until Linux commit
9d7de2aa8b41 ("x86/percpu/64: Use relative percpu offsets"), in v6.15, and in the kernel's image
since.  A cpu has its variable ``__per_cpu_offset[cpu]`` bytes above that, both before and after.
"""

from __future__ import annotations

from ..errors import P2mError
from .kernel import Kernel, Symbols

__all__ = ["address_on", "is_percpu"]


def is_percpu(symbols: Symbols, address: int) -> bool:
    """Return True if ``address`` is that of a per-cpu symbol, and not of memory."""
    start, end = (symbols.address(f"__per_cpu_{name}") for name in ("start", "end"))
    return start is not None and end is not None and start <= address < end


def address_on(kernel: Kernel, address: int, cpu: int) -> int:
    """Return the virtual address at which ``cpu`` has the per-cpu variable at ``address``.

    :raises P2mError: the kernel has no such cpu.
    :raises ReadError: its tables cannot be read.
    """
    cpus = 1  # nr_cpu_ids is a variable in kernels for more than one
    if (where := kernel.symbols.address("nr_cpu_ids")) is not None:
        cpus = int.from_bytes(kernel.read(where, 4, "nr_cpu_ids"), "little")
    if cpu >= cpus:
        raise P2mError(f"cpu {cpu}: the kernel's last one is {cpus - 1}")
    offset = kernel.word(kernel.address("__per_cpu_offset") + 8 * cpu, "__per_cpu_offset")
    return (address + offset) % (1 << 64)
