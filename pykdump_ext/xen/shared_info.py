"""``struct shared_info`` of x86-64: what a domain's kernel publishes about its p2m.

Sources: ``xen/include/public/xen.h`` and ``xen/include/public/arch-x86/xen.h``.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory
from ..machine.paging import NOT_MAPPED

__all__ = ["LIST_INVALID", "SharedInfo", "read_shared_info"]

# Behind 32 vcpu_info of 64 bytes, two bitmaps of 512 bytes and 16 bytes of wall clock there
# is struct arch_shared_info: max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3,
# p2m_vaddr, p2m_generation. p2m_cr3 is zero padding in Xen before 4.6.
ARCH_SHARED_INFO = 32 * 64 + 2 * 512 + 16
ARCH_SHARED_INFO_WORDS = 5
LIST_INVALID = NOT_MAPPED  # pfn_to_mfn_frame_list_list of a domain that keeps no such list


@dataclass(frozen=True)
class SharedInfo:
    """What a domain's kernel has published about its p2m, in its ``shared_info`` page.

    ``mfn`` is that page's. ``frame_list_mfn`` is 0 where the kernel has set none, and
    ``LIST_INVALID`` where it keeps none; ``p2m_cr3`` (a machine address) and
    ``p2m_vaddr`` are 0 where not set.
    """

    mfn: int
    max_pfn: int
    frame_list_mfn: int
    p2m_cr3: int
    p2m_vaddr: int

    @property
    def has_list(self) -> bool:
        """True when the domain publishes a list of its p2m's leaves."""
        return self.frame_list_mfn not in (0, LIST_INVALID)

    @property
    def has_p2m(self) -> bool:
        """True when the domain's kernel says where its linear p2m is."""
        return bool(self.p2m_cr3 and self.p2m_vaddr and self.p2m_vaddr % PAGE_SIZE == 0)


def read_shared_info(memory: MachineMemory, mfn: int) -> SharedInfo:
    """Return what machine frame ``mfn`` says, read as a ``shared_info`` page.

    :raises ReadError: the frame is not in this memory.
    """
    maddr = (mfn << PAGE_SHIFT) + ARCH_SHARED_INFO
    words = array("Q", memory.read(maddr, ARCH_SHARED_INFO_WORDS * 8, "shared_info"))
    max_pfn, frame_list_mfn, _, p2m_cr3, p2m_vaddr = words
    return SharedInfo(mfn, max_pfn, frame_list_mfn, p2m_cr3, p2m_vaddr)
