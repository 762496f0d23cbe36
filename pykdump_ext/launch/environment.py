"""The environment variables between p2mfix, the crash it becomes, and what runs in that crash.

Each is set for one process and taken out of the environment by the first that reads
it, so that programs started by crash do not inherit it. C has the same names in
``environment.h``.
"""

from __future__ import annotations

__all__ = [
    "AFTERWARDS",
    "DOMAIN",
    "HISTORY",
    "LD_PRELOAD_BEFORE",
    "LIST_FD",
    "REPAIRED",
]

AFTERWARDS = "PYKDUMP_EXT_AFTERWARDS"
"""What the session runs once it is a full one, as JSON: set by p2mfix, read by host/session.py."""

DOMAIN = "PYKDUMP_EXT_DOMAIN"
"""The id of the domain whose kernel is opened: set by ``p2mfix --domain``, read there, too."""

REPAIRED = "PYKDUMP_EXT_REPAIRED"
"""Set where crash has a rebuilt list from its start: by launch/preload.py, read there, too."""

LIST_FD = "PYKDUMP_EXT_P2M"
"""The file descriptor of the rebuilt list: set by launch/preload.py, read by preload.c."""

LD_PRELOAD_BEFORE = "PYKDUMP_EXT_LD_PRELOAD"
"""The user's own LD_PRELOAD: set by launch/preload.py, given back by preload.c."""

HISTORY = "PYKDUMP_EXT_HISTORY"
"""A file with the history of the crash before this one: set by host/restart.py, read in C."""
