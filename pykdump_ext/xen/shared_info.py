# SPDX-License-Identifier: GPL-3.0-or-later
"""``struct shared_info`` of x86-64, in which a domain's kernel publishes where its p2m is.

Sources: ``xen/include/public/xen.h`` and ``xen/include/public/arch-x86/xen.h``.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory
from ..machine.paging import NOT_MAPPED

__all__ = ["LIST_INVALID", "SharedInfo", "read_shared_info"]

# struct arch_shared_info follows 32 vcpu_info of 64 bytes, two bitmaps of 512 bytes and 16
# bytes of wall clock. Its words are max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3,
# p2m_vaddr and p2m_generation. The last three are zero padding before Xen commit 50bd1f0825
# ("x86: expand arch_shared_info to support linear p2m list"), in 4.6.
ARCH_SHARED_INFO = 32 * 64 + 2 * 512 + 16
ARCH_SHARED_INFO_WORDS = 5
LIST_INVALID = NOT_MAPPED  # pfn_to_mfn_frame_list_list of a domain that keeps no frame list


@dataclass(frozen=True)
class SharedInfo:
    """The part of a domain's shared_info that is about its p2m.

    ``mfn`` is that of the page itself. ``frame_list_mfn`` is 0 if the kernel has not set
    it, and ``LIST_INVALID`` if the kernel keeps no frame list. ``p2m_cr3`` (a machine
    address) and ``p2m_vaddr`` are 0 if the kernel has not set them.
    """

    mfn: int
    max_pfn: int
    frame_list_mfn: int
    p2m_cr3: int
    p2m_vaddr: int

    @property
    def has_list(self) -> bool:
        """True if the domain publishes a frame list."""
        return self.frame_list_mfn not in (0, LIST_INVALID)

    @property
    def has_p2m(self) -> bool:
        """True if the domain publishes where its linear p2m is."""
        return bool(self.p2m_cr3 and self.p2m_vaddr and self.p2m_vaddr % PAGE_SIZE == 0)


def read_shared_info(memory: MachineMemory, mfn: int) -> SharedInfo:
    """Return the contents of machine frame ``mfn``, taken as a shared_info page.

    :raises ReadError: the frame is not in this memory.
    """
    maddr = (mfn << PAGE_SHIFT) + ARCH_SHARED_INFO
    words = array("Q", memory.read(maddr, ARCH_SHARED_INFO_WORDS * 8, "shared_info"))
    max_pfn, frame_list_mfn, _, p2m_cr3, p2m_vaddr = words
    return SharedInfo(mfn, max_pfn, frame_list_mfn, p2m_cr3, p2m_vaddr)
