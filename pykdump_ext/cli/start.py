# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry points of the shell commands, which Ctrl-C ends quietly while they are imported.

Until the commands are imported, SIGINT has the system's own action: it ends the process without
a word, as it ends a program in C.
"""

from __future__ import annotations

import signal

__all__ = ["p2mfix", "pykdump_ext"]

PYTHONS_OWN = signal.getsignal(signal.SIGINT)  # SIG_IGN in a process that the shell put behind
if PYTHONS_OWN is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def p2mfix() -> None:
    """Run ``p2mfix``."""
    from .p2mfix import main  # noqa: PLC0415

    signal.signal(signal.SIGINT, PYTHONS_OWN)
    main()


def pykdump_ext() -> None:
    """Run ``pykdump-ext``."""
    from .pykdump_ext import main  # noqa: PLC0415

    signal.signal(signal.SIGINT, PYTHONS_OWN)
    main()
