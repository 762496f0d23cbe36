# SPDX-License-Identifier: GPL-3.0-or-later
"""From a minimal session to a full one, with the steps of crash's own start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crash_host import ffi, lib

from ..errors import P2mError
from ..launch.environment import AFTERWARDS, REPAIRED
from . import crash, lookups
from .ending import starting
from .extensions import loaded_by
from .guarded import c_text, succeeded

__all__ = ["rcfiles", "start_full_session", "started_repaired"]

_spent = False  # a start failed half way, and cannot begin again
_repaired = os.environ.pop(REPAIRED, None) is not None


def started_repaired() -> bool:
    """Return True when crash had the rebuilt list before its full session started."""
    return _repaired


def start_full_session() -> None:
    """Carry a minimal session on to a full one; in a full session, do nothing.

    crash prints its banner, and then runs the lines of ``.crashrc`` that the minimal session
    refused.  Ctrl-C has no effect until that is done; where p2mfix starts the session, Ctrl-C
    ends it.

    :raises P2mError: crash met an error; the session stays minimal, and cannot become a
        full one any more.
    """
    global _spent, _repaired  # noqa: PLW0603
    if not crash.session().minimal:
        return
    if _spent:
        raise P2mError(
            "the full session failed to start before, and cannot start again: open the dump anew"
        )
    before = ffi.new("struct host_session *")
    lib.host_get_session(before)
    ends = starting()
    planned = os.environ.pop(AFTERWARDS, None)
    after = json.loads(planned) if planned else None
    if after and after["rcfiles"]:
        succeeded(lib.host_read_rcfiles())  # crash has printed what is wrong in them
    if not succeeded(lib.host_full_session(ends)):
        _spent = True
        raise P2mError("crash could not start the full session: this one stays minimal")
    _repaired = _repaired or bool(lib.host_p2m_is_set())
    lookups.forget()
    if after:
        if after["input"] is not None:
            lib.host_run_afterwards(os.fsencode(after["input"]))
        return
    refused = list(_refused_lines(before))
    if refused:
        _run_afterwards("\n".join(refused) + "\n", before)


def rcfiles(before: Any) -> tuple[Path | None, Path | None]:
    """Return the ``.crashrc`` of the home folder and of the current one; None for one not read.

    The rules are those of setup_environment() in crash's main.c: crash reads a file that is
    the user's own and that others cannot write, and reads no file twice.

    :param before: ``struct host_session`` as it was before the full session started.
    """
    name = f".{c_text(before.program_name)}rc"
    home: Path | None = Path(c_text(before.home) or "/nonexistent") / name
    local: Path | None = Path(name)
    assert home is not None and local is not None
    if home.exists() and local.exists() and home.samefile(local):
        local = None
    return _trusted(home), _trusted(local) if local else None


def _trusted(path: Path) -> Path | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return path if status.st_uid == os.getuid() and not status.st_mode & 0o002 else None


def _refused_lines(before: Any) -> Iterator[str]:
    """Yield the lines of the ``.crashrc`` files that the minimal session refused.

    Lines after the one that runs now are left out: crash has not read them yet.
    """
    if before.stopped_rcfiles:
        return
    running = c_text(before.rcfile)
    for which, path in zip(("home", "local"), rcfiles(before)):
        if path is None or (which == "local" and running == "home"):
            continue
        text = path.read_text(errors="replace")
        if which == running:
            text = text.encode()[: before.rcfile_offset].decode(errors="replace")
        yield from (line for line in text.splitlines() if _was_refused(line))


def _was_refused(line: str) -> bool:
    words = line.split()
    if not words or words[0].startswith("#"):
        return False
    if words[0] == "extend":  # refused if no command of the file is for minimal sessions
        return len(words) == 2 and not words[1].startswith("-") and not loaded_by(words[1])
    return bool(lib.host_command_kind(words[0].encode()) != lib.HOST_MINIMAL_COMMAND)


def _run_afterwards(lines: str, before: Any) -> None:
    """Make crash run ``lines`` as an input file, after the commands that run now.

    A file of ``crash -i`` that crash has not read yet comes after them.
    """
    waiting = c_text(before.input_waiting)
    if waiting:
        lines += Path(waiting).read_text(errors="replace")
    handle = os.memfd_create("crashrc", 0)
    os.write(handle, lines.encode())
    lib.host_run_afterwards(f"/proc/self/fd/{handle}".encode())
