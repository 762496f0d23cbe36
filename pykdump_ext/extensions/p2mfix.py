# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension that repairs crash's p2m on the dump of a Xen host.

``extend p2mfix.py`` rebuilds the list, checks it, gives it to crash, and carries a minimal session
on to a full one.  The command ``p2m`` shows the p2m, undoes the repair and repeats it.
"""

from __future__ import annotations

import argparse
import shutil

from pykdump_ext.host import CommandError, command, crash
from pykdump_ext.host.fast import KEPT_MIB, LARGEST_MIB, fast_status, slow_down, speed_up
from pykdump_ext.host.live_p2m import show_live
from pykdump_ext.host.repair import fix, is_repaired, undo, unload
from pykdump_ext.host.session import opened_session
from pykdump_ext.host.tasks import tasks
from pykdump_ext.progress import shown
from pykdump_ext.reports import words
from pykdump_ext.reports.views import VIEWS, WIDEST, Screen, show

DUMPS_OWN = "dump's"


def loaded() -> None:
    """Repair the session; ``extend`` runs this once the file is loaded."""
    fix()


def unloaded() -> None:
    """Undo the repair; ``extend -u`` runs this."""
    unload()


def status() -> None:
    """Print the diagnosis of the p2m, how many tasks crash has, and which list crash reads by."""
    opened = opened_session()
    for line in words.status(opened.diagnosis, opened.release):
        print(line)
    found = tasks()
    if found is not None:
        print(f"         tasks: {found.status(crash.session().crash_version)}")
    print(f"   crash reads: by the {'rebuilt' if is_repaired() else DUMPS_OWN} list")
    print(f"    fast reads: {fast_status()}")


def screen() -> Screen:
    """Return the size and the colours of the place where the output goes."""
    session = crash.session()
    colour = session.output_terminal
    width = min(shutil.get_terminal_size().columns, WIDEST) if colour else 80
    files = (session.dumpfile, session.namelist, session.namelist_debug)
    return Screen(width, colour, [path for path in files if path])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command ``p2m``."""
    top = argparse.ArgumentParser(
        prog="p2m",
        description="Show and repair the p2m, the map from pseudo-physical to machine frames by"
        " which crash reads dom0's memory. Numbers are hexadecimal. The default action is status.",
    )
    actions = top.add_subparsers(dest="action", metavar="action")
    actions.add_parser("status", help="show the diagnosis, and what crash makes of it")
    for view in VIEWS.values():
        view.fill(actions.add_parser(view.name, help=view.summary))
    actions.add_parser("fix", help="repair again; carry a minimal session on to a full one")
    actions.add_parser("undo", help="undo the repair: give crash its own reads and list back")
    fast = actions.add_parser("fast", help="show fast reads, or turn them on or off")
    fast.add_argument("switch", nargs="?", choices=["on", "off"])
    fast.add_argument(
        "--keep", type=int, default=KEPT_MIB, metavar="MIB",
        help=f"how much memory the kept pages may take (default: {KEPT_MIB} MiB)",
    )  # fmt: skip
    return top


def fast(switch: str | None, mib: int) -> None:
    """Turn fast reads on or off, or print whether they are on and what they have done.

    :param mib: how many MiB of pages are kept.
    """
    if not 1 <= mib <= LARGEST_MIB:
        raise CommandError(f"--keep takes 1 to {LARGEST_MIB:,} MiB, not {mib:,}")
    if switch == "on":
        speed_up(mib)
    elif switch == "off":
        slow_down()
    print(f"fast reads: {fast_status()}")


ACTIONS = {None: status, "status": status, "fix": fix, "undo": undo}


@command("p2m", parser=parser(), help="show and repair the p2m of a Xen dom0", minimal=True)
def p2m(args: argparse.Namespace) -> None:
    """Run the command ``p2m``."""
    with shown(crash.session().terminal):
        _p2m(args)


def _p2m(args: argparse.Namespace) -> None:
    if crash.session().live and args.action in (None, "status", "pfn"):
        if args.action == "pfn" and args.json:
            raise CommandError("a live session prints no JSON")
        show_live(args.number if args.action == "pfn" else None)
    elif args.action == "fast":
        fast(args.switch, args.keep)
    elif args.action in VIEWS:
        show(VIEWS[args.action], opened_session().diagnosis, args, screen())
    else:
        ACTIONS[args.action]()
