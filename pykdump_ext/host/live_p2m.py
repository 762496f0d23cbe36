# SPDX-License-Identifier: GPL-3.0-or-later
"""The p2m of a running kernel, read through the kernel's own virtual addresses."""

from __future__ import annotations

from ..errors import P2mError, printable
from ..linux.banners import release_of
from ..p2m.entries import Kind, kind_of
from ..p2m.layouts import find_layout
from . import crash
from .session import SessionNamelist

__all__ = ["show_live"]


def show_live(pfn: int | None) -> None:
    """Print the output of ``p2m status`` or ``p2m pfn N`` in a live session.

    :param pfn: the pfn to show, or None for the status.
    :raises P2mError: the kernel is no Xen PV domain's, its p2m is not linear (it is before
        Linux 3.19), or it has no such pfn.
    """
    namelist = SessionNamelist()
    layout = find_layout(namelist)
    if layout.name != "linear":
        raise P2mError(
            f"the kernel has a {layout.name} p2m, and a live session can read only a linear one:"
            " Linux 3.19 and newer"
        )
    p2m_addr, pfns = (crash.readPtr(crash.sym2addr(name)) for name in ("xen_p2m_addr", "max_pfn"))
    if not p2m_addr:
        raise P2mError("the running kernel is not a Xen PV domain's, so it has no p2m")
    if pfn is None:
        release = printable(release_of(namelist.banner()))
        print(f"Linux {release}, running, {layout.name} p2m at {p2m_addr:x}, {pfns:,} pfns")
        print("   crash reads: the running kernel; there is no list to repair")
        return
    if pfn >= pfns:
        raise P2mError(f"pfn {pfn:x} is above the last one, {pfns - 1:x}")
    entry = crash.readPtr(p2m_addr + 8 * pfn)
    kind = kind_of(entry)
    print(f"pfn {pfn:x}: " + (f"mfn {entry:x}, " if kind is Kind.MEMORY else "") + kind.value)
