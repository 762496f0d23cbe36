# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's machine-to-phys table, the m2p: where a PV kernel sees it."""

from __future__ import annotations

from ..errors import P2mError
from ..linux.kernel import Kernel
from ..machine.memory import PAGE_SIZE

__all__ = ["M2P", "MACH2PHYS_VIRT_START", "m2p_start"]

M2P = "machine-to-phys table"  # for messages

# Where every 64-bit PV domain sees the m2p, one unsigned long for each mfn:
# __MACH2PHYS_VIRT_START of xen/include/public/arch-x86/xen-x86_64.h
MACH2PHYS_VIRT_START = 0xFFFF800000000000


def m2p_start(kernel: Kernel) -> int:
    """Return the virtual address at which a kernel sees the m2p."""
    try:
        base = kernel.value("machine_to_phys_mapping")
    except P2mError:  # XenLinux has no such variable
        base = MACH2PHYS_VIRT_START
    return base - base % PAGE_SIZE
