# SPDX-License-Identifier: GPL-3.0-or-later
"""What p2mfix refuses before crash starts: files that cannot be read, or that are no dump."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import P2mError
from ..linux.namelist import is_namelist
from ..linux.packed import first_bytes
from ..machine.dumps import HEAD, begins_as_dump, is_dump, open_dump

__all__ = ["refuse_what_is_none", "refuse_what_is_unreadable"]


def refuse_what_is_unreadable(files: Sequence[str], commands: str | None) -> None:
    """Do nothing, unless one of these cannot be read.

    :param files: the namelist and the dump's files.
    :param commands: the file of crash's option ``-i``.
    :raises P2mError: one cannot be read; the text names it.
    """
    for path in files:
        why = _unreadable(path)
        if why:
            raise P2mError(f"{path}: {why}")
    why = _unreadable(commands) if commands is not None else None
    if why:
        raise P2mError(f"{commands}, the file of -i: {why}")


def _unreadable(path: str) -> str | None:
    """Return why a file cannot be read, or None; it is not opened: that may wait at a pipe."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (as given)
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(mode):
        return os.strerror(errno.EISDIR)
    return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


def refuse_what_is_none(files: Sequence[str]) -> None:
    """Do nothing, unless it is certain that none of the files is a dump that crash can open.

    :raises P2mError: one is a packed dump, all are empty or namelists, or there is one file, and
        it is no dump; crash would only say that it does not know a format, or that it finds no
        live memory.
    """
    if any(map(is_dump, files)):
        return
    for path in files:
        if begins_as_dump(first_bytes(path, HEAD)):
            open_dump([path])
    regular = [Path(path) for path in files if Path(path).is_file()]
    empty = [path for path in regular if not path.stat().st_size]
    if len(files) == 1:
        what = "is empty" if empty else "is a vmlinux" if is_namelist(files[0]) else "is no dump"
        raise P2mError(f"{files[0]}: {what}; give a vmlinux and a dump: p2mfix VMLINUX VMCORE")
    if len(regular) == len(files) and all(p in empty or is_namelist(p) for p in regular):
        raise P2mError("there is no dump among these files")
