# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's vmcoreinfo, read from its memory: the dump of a Xen host has no note of it.

The source is ``kernel/crash_core.c``, and ``kernel/vmcore_info.c`` since Linux commit
443cbaf9e2fd ("crash: split vmcoreinfo exporting code out from crash_core.c"), in v6.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import P2mError
from ..machine.memory import PAGE_SIZE
from ..machine.notes import Note
from .kernel import START_KERNEL_MAP, Kernel

__all__ = ["native_vmcoreinfo", "own_vmcoreinfo", "release_in", "swapper"]

LARGEST_VMCOREINFO = PAGE_SIZE  # VMCOREINFO_BYTES, include/linux/crash_core.h


def own_vmcoreinfo(kernel: Kernel) -> str:
    """Return the text of the kernel's vmcoreinfo.

    :raises P2mError: the kernel has none, or it is damaged.
    """
    data = kernel.address("vmcoreinfo_data")
    size = kernel.value("vmcoreinfo_size")
    if not 0 < size <= LARGEST_VMCOREINFO:
        raise P2mError(f"the kernel's vmcoreinfo is damaged: it has {size} bytes")
    # An array until Linux commit 203e9e41219b ("kexec: move vmcoreinfo out of the kernel's
    # .bss section"), in v4.13; a pointer since
    if not kernel.read(data, 8, "vmcoreinfo_data").startswith(b"OSRELEAS"):
        data = kernel.word(data, "vmcoreinfo_data")
    return kernel.read(data, size, "vmcoreinfo").decode("latin-1")


def release_in(notes: Iterable[Note]) -> str | None:
    """Return the release that a note of vmcoreinfo has, which dumps without Xen have; or None."""
    for note in notes:
        found = re.search(rb"^OSRELEASE=([!-~]+)$", note.data, re.MULTILINE)
        if note.owner == "VMCOREINFO" and found:
            return found[1].decode()
    return None


def swapper(kernel: Kernel) -> int:
    """Return the virtual address of the kernel's own top page table, from its vmcoreinfo.

    :raises P2mError: the vmcoreinfo does not name it.
    """
    found = re.search(r"^SYMBOL\(swapper_pg_dir\)=([0-9a-f]+)$", own_vmcoreinfo(kernel), re.M)
    if found is None:
        raise P2mError("the kernel's vmcoreinfo does not name swapper_pg_dir: it is damaged")
    return int(found[1], 16)


def native_vmcoreinfo(kernel: Kernel, top: int, seconds: int) -> bytes:
    """Return the kernel's vmcoreinfo, finished as a kernel without Xen finishes it when it crashes.

    A reader that finds ``CRASHTIME`` reads the cpus' registers from ``crash_notes``.

    :param top: the pseudo-physical address of the kernel's own top page table.
    :param seconds: the kernel's clock, since 1970 (``crash_save_vmcoreinfo()``).
    :raises P2mError: the kernel has no vmcoreinfo, or it is damaged.
    """
    text = re.sub(r"(?m)^(NUMBER\(phys_base\)|CRASHTIME)=.*\n", "", own_vmcoreinfo(kernel))
    phys_base = top - (swapper(kernel) - START_KERNEL_MAP) & (1 << 64) - 1
    return f"{text}NUMBER(phys_base)={phys_base}\nCRASHTIME={seconds}\n".encode("latin-1")
