# SPDX-License-Identifier: GPL-3.0-or-later
"""Fast reads and walks of a Xen host's dump: on, off, and what they have done.

Three files of C do the work: ``pages.c`` keeps machine pages and serves crash's reads from them,
``m2p.c`` finds the pfn of a machine frame, ``walks.c`` walks the kernel's page tables.  What crash
prints stays as it is.
"""

from __future__ import annotations

import os
from typing import Any

from crash_host import ffi, lib

from ..launch.environment import PLAIN
from ..machine.dumps import open_dump
from ..machine.elf import PT_LOAD, ElfCore
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from ..machine.paging import ADDRESS_MASK
from . import crash
from .guarded import check
from .session import opened_session

__all__ = [
    "KEPT_MIB",
    "LARGEST_MIB",
    "fast_is_on",
    "fast_status",
    "slow_down",
    "speed_up",
    "wanted",
]

KEPT_MIB = 64
"""How many MiB of machine pages are kept, unless the user says otherwise."""
LARGEST_MIB = 1 << 14

_plain = os.environ.pop(PLAIN, None) is not None


def wanted() -> bool:
    """Return False in a session that ``p2mfix --plain`` started."""
    return not _plain


def fast_is_on() -> bool:
    """Return True while reads and walks are fast."""
    return bool(_state().on)


def speed_up(mib: int = KEPT_MIB) -> None:
    """Make reads and walks fast, or begin anew with another number of kept pages.

    :param mib: how many MiB of machine pages are kept; a power of 2, or the next lower one.
    :raises P2mError: the kernel's page tables have no proved root.
    :raises crash.error: crash does not read this dump as that of a Xen host's dom0.
    """
    root = opened_session().kernel.root.maddr & ADDRESS_MASK
    frames = ffi.new("uint64_t[]", _cut_frames())
    done = lib.host_fast_on(root, frames, len(frames), mib << 20)
    check(done, "cannot make reads fast")


def slow_down() -> None:
    """Give crash's own functions back to crash, and free the kept pages."""
    check(lib.host_fast_off(), "cannot give crash its reads back")


def fast_status() -> str:
    """Return what ``p2m status`` shows of fast reads."""
    state = _state()
    if not state.on:
        return "off"
    mib = state.kept * PAGE_SIZE / (1 << 20)
    return (
        f"on, {mib:,.1f} of {state.size >> 20:,} MiB of pages kept, {state.hits:,} hits,"
        f" {state.misses:,} misses; {state.walks:,} walks, {state.left:,} left to crash"
    )


def _state() -> Any:
    state = ffi.new("struct host_fast *")
    lib.host_get_fast(state)
    return state


def _cut_frames() -> list[int]:
    """Return the mfns of pages of which an ELF dump has one part in a segment, and not another."""
    dumpfile = crash.session().dumpfile
    dump = open_dump([dumpfile]) if dumpfile else None
    if not isinstance(dump, ElfCore):
        return []
    loads = [s for s in dump.headers if s.type == PT_LOAD]
    edges = {s.paddr + size for s in loads for size in (0, s.filesz, s.memsz)}
    return sorted({edge >> PAGE_SHIFT for edge in edges if edge % PAGE_SIZE})
