"""A kernel's own vmcoreinfo, which the dump of a Xen host does not have as a note.

Linux keeps it in memory (``kernel/crash_core.c``, ``kernel/vmcore_info.c`` since 6.9).
"""

from __future__ import annotations

import re

from ..errors import P2mError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from .kernel import START_KERNEL_MAP, Kernel, Root

__all__ = ["own_vmcoreinfo", "swapper_root", "vmcoreinfo_for_machine_memory"]

LARGEST_VMCOREINFO = PAGE_SIZE  # VMCOREINFO_BYTES, include/linux/crash_core.h


def own_vmcoreinfo(kernel: Kernel) -> str:
    """Return the text that the kernel would have added to a dump of its own.

    :raises P2mError: it is not there.
    """
    data = kernel.address("vmcoreinfo_data")
    size = kernel.value("vmcoreinfo_size")
    if not 0 < size <= LARGEST_VMCOREINFO:
        raise P2mError(f"the kernel's vmcoreinfo is damaged: it has {size} bytes")
    # Linux 4.13 made the array a pointer
    if not kernel.read(data, 8, "vmcoreinfo_data").startswith(b"OSRELEAS"):
        data = kernel.word(data, "vmcoreinfo_data")
    return kernel.read(data, size, "vmcoreinfo").decode("latin-1")


def swapper(kernel: Kernel) -> int:
    """Return the address of the kernel's own top page table, as its vmcoreinfo has it.

    :raises P2mError: there is none.
    """
    found = re.search(r"^SYMBOL\(swapper_pg_dir\)=([0-9a-f]+)$", own_vmcoreinfo(kernel), re.M)
    if found is None:
        raise P2mError("the kernel's vmcoreinfo does not name swapper_pg_dir: it is damaged")
    return int(found[1], 16)


def swapper_root(kernel: Kernel) -> Root:
    """Return the kernel's own top page table as a candidate for its root.

    :raises P2mError: it is not to be found.
    """
    mfn = kernel.mfn_at(swapper(kernel), "swapper_pg_dir")
    return Root(mfn << PAGE_SHIFT, "swapper_pg_dir")


def vmcoreinfo_for_machine_memory(kernel: Kernel) -> bytes:
    """Return the kernel's vmcoreinfo for a reader whose physical memory is the machine's.

    ``phys_base`` leads that reader to the machine address of the top page table.
    ``CRASHTIME`` is what a kernel adds when it saves its registers itself: with it a
    reader looks for them in ``crash_notes``.

    :raises P2mError: the kernel has none.
    """
    text = re.sub(r"(?m)^(NUMBER\(phys_base\)|CRASHTIME)=.*\n", "", own_vmcoreinfo(kernel))
    phys_base = kernel.root.maddr - (swapper(kernel) - START_KERNEL_MAP) & (1 << 64) - 1
    return f"{text}NUMBER(phys_base)={phys_base}\nCRASHTIME=0\n".encode("latin-1")
