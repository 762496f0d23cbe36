# SPDX-License-Identifier: GPL-3.0-or-later
"""The session of crash as an opened dump: its memory, its symbols, its domain."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from ..errors import P2mError, ReadError
from ..launch.environment import DOMAIN
from ..linux.namelist import Namelist
from ..machine.dumps import open_dump
from ..machine.notes import Note
from ..opened import OpenedDump
from . import crash

__all__ = ["SessionDump", "SessionNamelist", "opened_domain", "opened_session"]

opened_domain = int(os.environ.pop(DOMAIN, "0"))
"""The id of the domain whose kernel is open; 0 for dom0."""


class SessionDump:
    """The dump that crash has open: crash reads its memory, we read its notes from its file."""

    format = "a session of crash"

    @cached_property
    def notes(self) -> list[Note]:
        """The dump's ELF notes, in file order.

        :raises P2mError: crash has no dump open, or its file cannot be read.
        """
        dumpfile = crash.session().dumpfile
        if dumpfile is None:
            raise P2mError("this session has no dump open")
        return open_dump([dumpfile]).notes

    @property
    def incomplete(self) -> str | None:
        """Why a part of the dump is missing from its first file, or None."""
        dumpfile = crash.session().dumpfile
        return None if dumpfile is None else open_dump([dumpfile]).incomplete

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from machine address ``maddr``; ``what`` is for the message.

        :raises ReadError: the memory is not in the dump, or its page is excluded.
        """
        try:
            return crash.read_machine(maddr, size, what)
        except crash.Excluded:
            raise ReadError("machine address", maddr, what, "page excluded") from None
        except crash.error:
            raise ReadError("machine address", maddr, what) from None


class SessionNamelist:
    """The namelist that crash has open; its symbols have the addresses where the kernel ran."""

    def address(self, name: str) -> int | None:
        """Return the virtual address of the symbol ``name``, or None."""
        return crash.sym2addr(name) if crash.symbol_exists(name) else None

    @property
    def path(self) -> Path:
        """The path of the namelist, as crash has it."""
        return Path(crash.session().namelist or "")

    @property
    def files(self) -> list[Path]:
        """The ELF files, unpacked, for a program that reads debug information.

        :raises P2mError: crash has no namelist.
        """
        session = crash.session()
        return Namelist(*filter(None, (session.namelist, session.namelist_debug))).files

    def banner(self) -> bytes:
        """Return the namelist's ``linux_banner``, without its final zero byte.

        :raises P2mError: crash has no namelist, or none with a banner that can be read.
        """
        session = crash.session()
        problem = P2mError("crash has no namelist open, so the kernel has no symbols")
        for path in (session.namelist, session.namelist_debug):
            if path is not None:
                try:
                    return Namelist(path).banner()
                except P2mError as error:
                    problem = error
        raise problem


_opened: list[OpenedDump] = []  # at most one


def opened_session() -> OpenedDump:
    """Return the dump of this session, opened at the first call.

    :raises P2mError: this session is not one on a dump of a Xen host with dom0's namelist.
    """
    session = crash.session()
    if session.live:
        raise P2mError(
            "this is a live session, which has no dump: only p2m status and p2m pfn work in it"
        )
    if session.xen_hyper:
        raise P2mError("this session is on Xen's own symbols: open the dump with dom0's vmlinux")
    if not session.xen_core or session.dumpfile is None:
        raise P2mError("this is not a dump of a Xen host, so there is no p2m to repair")
    if not _opened:
        paths = [session.dumpfile]
        _opened.append(OpenedDump(SessionDump(), [SessionNamelist()], paths, opened_domain))
    return _opened[0]
