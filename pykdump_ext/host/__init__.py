# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: the decorator and the module that an extension imports.

An extension is a Python file that ``extend`` loads.  It registers its commands with the
decorator :func:`command`::

    from pykdump_ext.host import command, crash

    @command("banner", usage="", help="print the kernel's banner", minimal=True)
    def banner(args):
        print(crash.readmem(crash.sym2addr("linux_banner"), 64))

A function ``loaded()`` in the file runs once crash knows its commands; a function
``unloaded()`` runs before crash forgets them.  Both are optional. :func:`printable` makes text of
a dump safe for a terminal.
"""

from ..errors import printable
from . import crash
from .commands import CommandError
from .extensions import command

__all__ = ["CommandError", "command", "crash", "printable"]
