"""The session of crash as a dump: its memory, its symbols, the domain that is open."""

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
"""The id of the domain whose kernel is open; 0 is dom0."""


class SessionDump:
    """The dump that is open in crash, read by crash; its notes are read from its file."""

    format = "a session of crash"

    @cached_property
    def notes(self) -> list[Note]:
        """The dump's ELF notes.

        :raises P2mError: crash has no dump open, or the file cannot be read.
        """
        dumpfile = crash.session().dumpfile
        if dumpfile is None:
            raise P2mError("this session has no dump open")
        return open_dump([dumpfile]).notes

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``maddr``; see :class:`~..machine.memory.MachineMemory`."""
        try:
            return crash.read_machine(maddr, size, what)
        except crash.Excluded:
            raise ReadError("machine address", maddr, what, "page excluded") from None
        except crash.error:
            raise ReadError("machine address", maddr, what) from None


class SessionNamelist:
    """The namelist that is open in crash; its symbols are where the kernel really was."""

    def address(self, name: str) -> int | None:
        """Return the virtual address of symbol ``name``, or None."""
        return crash.sym2addr(name) or None

    @property
    def path(self) -> Path:
        """The namelist's file, as crash has it."""
        return Path(crash.session().namelist or "")

    def banner(self) -> bytes:
        """Return the namelist's ``linux_banner``.

        :raises P2mError: crash has no namelist that can be read.
        """
        session = crash.session()
        problem = P2mError("crash has no namelist")
        for path in (session.namelist, session.namelist_debug):
            if path is not None:
                try:
                    return Namelist(path).banner()
                except P2mError as error:
                    problem = error
        raise problem


_opened: list[OpenedDump] = []  # one, once it has been opened


def opened_session() -> OpenedDump:
    """Return the dump of this session; it is opened once.

    :raises P2mError: this session is not one on a dump of a Xen host.
    """
    session = crash.session()
    if session.live:
        raise P2mError("this is a live session: crash translates there by itself")
    if session.xen_hyper:
        raise P2mError("this session is on Xen itself: open the dump with dom0's vmlinux")
    if not session.xen_core or session.dumpfile is None:
        raise P2mError("this is not a dump of a Xen host, so there is no p2m to repair")
    if not _opened:
        paths = [session.dumpfile]
        _opened.append(OpenedDump(SessionDump(), [SessionNamelist()], paths, opened_domain))
    return _opened[0]
