# SPDX-License-Identifier: GPL-3.0-or-later
"""Why did this host die: the parts of ``p2mfix report``, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import P2mError
from .cpus import Cpus
from .domains import Domains
from .happened import Happened
from .logs import Dmesg, XenLog
from .p2m import P2m
from .part import Part
from .tasks import Locks, Tasks
from .usage import Usage

__all__ = ["PARTS", "chosen"]

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Happened(), Dmesg(), XenLog(), Cpus(), Tasks(), Locks(), Usage(), Domains(), P2m(),
    )
}  # fmt: skip


def chosen(names: Iterable[str]) -> list[Part]:
    """Return the parts with these names, in their order in a report; without names, all.

    :raises P2mError: there is no part of such a name.
    """
    wanted = [name for name in names if name]
    for name in wanted:
        if name not in PARTS:
            raise P2mError(f"{name}: no part of a report; the parts are {', '.join(PARTS)}")
    return [part for name, part in PARTS.items() if not wanted or name in wanted]
