# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints in a dump to where a domain's page tables and frame list are; none is proved yet."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import P2mError
from ..linux.kernel import Root
from ..machine.memory import PAGE_SHIFT
from .domains import Domain, Xen
from .notes import CrashNote
from .shared_info import LIST_INVALID, SharedInfo

__all__ = ["DomainHints", "hints_from_note", "hints_from_xen", "hints_of_guest"]


@dataclass(frozen=True)
class DomainHints:
    """Where a domain's top page table and its frame list may be.

    ``version`` is Xen's. ``frame_list_mfn`` is the mfn of the domain's
    ``pfn_to_mfn_frame_list_list``, or ``LIST_INVALID``. ``roots`` are candidates for its
    kernel's top page table, the best first. ``shared`` is its shared_info, or None if it
    was not found in Xen's memory.
    """

    version: str
    frame_list_mfn: int
    roots: tuple[Root, ...]
    domain: int = 0
    shared: SharedInfo | None = None


def _cr3_roots(note: CrashNote) -> list[Root]:
    return [Root(cr3, f"cr3, cpu {cpu}") for cpu, cr3 in enumerate(note.cr3s)]


def hints_from_note(note: CrashNote) -> DomainHints:
    """Return the hints for dom0 in Xen's crash notes: every cpu may have run dom0."""
    return DomainHints(note.version, note.frame_list_mfn, tuple(_cr3_roots(note)))


def hints_from_xen(xen: Xen, number: int) -> DomainHints:
    """Return the hints for domain ``number`` in Xen's memory.

    Those for dom0 are in the crash notes; cpus that ran another domain are left out,
    because a guest may run the same kernel, and then its root would pass the proof.

    :raises P2mError: there is no such domain, or it is not a 64-bit PV domain.
    :raises ReadError: Xen's frame table cannot be read.
    """
    domain = xen.domain(number)
    if number:
        return hints_of_guest(xen, domain)
    roots = [root for root in _cr3_roots(xen.note) if xen.owner(root.maddr) in (0, None)]
    return DomainHints(
        xen.note.version, xen.note.frame_list_mfn, tuple(roots), shared=domain.shared
    )


def hints_of_guest(xen: Xen, domain: Domain) -> DomainHints:
    """Return the hints for a guest: the root in its shared_info, else those in the frame table.

    :raises P2mError: it is not a 64-bit PV domain.
    :raises ReadError: Xen's frame table cannot be read.
    """
    shared = domain.shared
    if shared is not None and xen.is_root(domain, shared.p2m_cr3):
        roots = [Root(shared.p2m_cr3, "p2m_cr3")]
    else:
        owned = xen.owned([domain])[domain.id]
        if not owned.roots:
            raise P2mError(
                f"domain {domain.id} is not a 64-bit PV domain (its kind is {owned.kind}),"
                " so it has no p2m"
            )
        roots = [Root(mfn << PAGE_SHIFT, "Xen's frame table") for mfn in owned.roots]
    listed = shared.frame_list_mfn if shared and shared.has_list else LIST_INVALID
    return DomainHints(xen.note.version, listed, tuple(roots), domain.id, shared)
