# SPDX-License-Identifier: GPL-3.0-or-later
"""crash's tasks: read again where crash misses most of them, and counted."""

from __future__ import annotations

from dataclasses import dataclass

from crash_host import ffi, lib

from .guarded import check

__all__ = ["Tasks", "find_tasks", "tasks"]


@dataclass(frozen=True)
class Tasks:
    """How many tasks crash has, idle ones included.

    ``counted`` is the number by the kernel's ``nr_threads``, or 0 where crash reads no such
    count, or was asked for the running tasks only.  ``helped`` is True where this crash alone
    reads too little of this kernel's ``struct pid``, and misses most tasks.
    """

    found: int
    counted: int
    helped: bool

    @property
    def lacks_some(self) -> bool:
        """True when the kernel counts more tasks than crash has."""
        return self.found < self.counted

    def status(self, version: str) -> str:
        """Return what ``p2m status`` shows of the tasks.

        :param version: crash's.
        """
        if self.lacks_some:
            return f"{self.found:,} of the {self.counted:,} that the kernel counts"
        return f"{self.found:,}" + (f"; crash {version} alone misses most" if self.helped else "")


def tasks() -> Tasks | None:
    """Return how many tasks crash has; None in a session that is not a full one."""
    asked = ffi.new("struct host_tasks *")
    lib.host_get_tasks(asked)
    return Tasks(asked.found, asked.counted, bool(asked.grown)) if asked.found else None


def find_tasks() -> Tasks | None:
    """Make crash read its table of tasks again if it has missed most; return :func:`tasks`.

    :raises crash.error: crash could not read it again.
    """
    check(lib.host_find_tasks(), "cannot read the table of tasks again")
    return tasks()
