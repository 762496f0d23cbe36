"""Python inside crash: what an extension written in Python stands on.

An extension is a Python file that ``extend`` loads.  It registers commands with
a decorator::

    from pykdump_ext import crash
    from pykdump_ext.host import command

    @command("banner", usage="", help="print the kernel's banner", minimal=True)
    def banner(args):
        print(crash.readmem(crash.sym2addr("linux_banner"), 64))

A function called ``loaded``, where there is one, runs when the file has been
loaded and its commands are there; ``unloaded`` before they go.
"""

from .extensions import CommandError, command
from .restart import restart
from .session import (
    CrashMemory,
    CrashSymbols,
    P2mPatch,
    opened_domain,
    start_full_session,
    started_repaired,
)

__all__ = [
    "CommandError",
    "CrashMemory",
    "CrashSymbols",
    "P2mPatch",
    "command",
    "opened_domain",
    "restart",
    "start_full_session",
    "started_repaired",
]
