"""Python inside crash: what an extension written in Python stands on.

An extension is a Python file that ``extend`` loads.  It registers commands with
a decorator::

    from pykdump_ext.host import command, crash

    @command("banner", usage="", help="print the kernel's banner", minimal=True)
    def banner(args):
        print(crash.readmem(crash.sym2addr("linux_banner"), 64))

A function called ``loaded``, where there is one, runs when the file has been
loaded and its commands are there; ``unloaded`` before they go.
"""

from . import crash
from .extensions import CommandError, command

__all__ = ["CommandError", "command", "crash"]
