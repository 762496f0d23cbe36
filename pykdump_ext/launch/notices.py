# SPDX-License-Identifier: GPL-3.0-or-later
"""What p2mfix says of a dump before crash starts, because crash does not say it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from ..errors import INCOMPLETE, OtherFileError, P2mError, printable
from ..linux.banners import release_of
from ..linux.namelist import Namelist
from ..machine.dumps import Dump, zeros_help
from ..opened import OpenedDump
from .crash_versions import misses_tasks

__all__ = ["say_cut", "say_incomplete", "say_missed_tasks"]


def _say(text: str) -> None:
    print(f"p2mfix: {printable(text)}", file=sys.stderr)


def say_cut(error: P2mError) -> None:
    """Print why a dump cannot be opened, if its end is missing: to crash it has no known format."""
    if isinstance(error, OtherFileError) and error.verdict == INCOMPLETE:
        _say(f"the dump is incomplete: {error}")


def say_incomplete(dump: Dump) -> None:
    """Print what is missing of a dump, if something is."""
    if dump.incomplete:
        advice = "; if crash cannot start, --zero_excluded may help" if zeros_help(dump) else ""
        _say(f"the dump is incomplete: {dump.incomplete}{advice}")


def say_missed_tasks(
    version: str, opened: OpenedDump, namelist: Sequence[str], files: Sequence[str]
) -> None:
    """Print that crash may miss most tasks of a dump that p2mfix leaves to it, if that is so.

    :param version: that of crash.
    :param opened: the dump, which has no notes of Xen.
    :param namelist: the files of the namelist.
    :param files: the dump's files.
    """
    if not opened.dump.notes:
        return  # nothing shows that this was no Xen host
    try:
        release = opened.own_release or release_of(Namelist(*namelist).banner())
    except P2mError:
        return
    if misses_tasks(version, release):
        drgn = shlex.join(["drgn", "-c", files[0], "-s", namelist[0]])
        _say(
            f"crash {version} may miss most tasks of Linux {release}, and p2mfix helps it only on"
            f" the dump of a Xen host: if ps shows too few, use crash 8.0.4 or newer, or {drgn}"
        )
