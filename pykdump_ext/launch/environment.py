# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment variables that carry facts from p2mfix into the crash that it becomes.

The code that reads a variable also removes it from the environment, so that programs that
crash starts do not inherit it.  ``environment.h`` has the same names for C.
"""

from __future__ import annotations

__all__ = [
    "AFTERWARDS",
    "DOMAIN",
    "HISTORY",
    "LD_PRELOAD_BEFORE",
    "LIST_FD",
    "PLAIN",
    "REPAIRED",
]

AFTERWARDS = "PYKDUMP_EXT_AFTERWARDS"
"""What a full session that p2mfix starts runs first, as JSON:
set by command_line.py, read by full_session.py, ending.py, leave.c, session.c and preload.c."""

DOMAIN = "PYKDUMP_EXT_DOMAIN"
"""The id of the domain whose kernel is opened: set by command_line.py, read by session.py."""

REPAIRED = "PYKDUMP_EXT_REPAIRED"
"""Crash has the rebuilt list from its start:
set by preload.py, read by preload.c and full_session.py."""

LIST_FD = "PYKDUMP_EXT_P2M"
"""A file descriptor of the rebuilt list; empty where crash reads by the dump's list:
set by launch/preload.py, read by launch/preload.c."""

LD_PRELOAD_BEFORE = "PYKDUMP_EXT_LD_PRELOAD"
"""The user's own LD_PRELOAD: set by launch/preload.py, restored by launch/preload.c."""

PLAIN = "PYKDUMP_EXT_PLAIN"
"""Reads stay as crash makes them: set by command_line.py, read by host/fast.py."""

HISTORY = "PYKDUMP_EXT_HISTORY"
"""A file with the history of the crash before: set by host/restart.py, read by host/session.c."""
