"""Repairs crash's p2m on dumps of Xen hosts, and carries on to a full session.

``extend p2mfix.py`` does everything; the command ``p2m`` looks closer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from pykdump_ext.host import command, crash
from pykdump_ext.host.live import show_live
from pykdump_ext.host.repair import fix, is_repaired, undo, unload
from pykdump_ext.host.session import opened_session
from pykdump_ext.p2m.verify import Leaf, Leaves
from pykdump_ext.reports import words
from pykdump_ext.reports.views import VIEWS, Screen, show

DUMPS_OWN = "dump's"
WIDEST = 120  # columns of a map


def loaded() -> None:
    """Run by ``extend`` once this file is loaded."""
    fix()


def unloaded() -> None:
    """Run by ``extend -u``."""
    unload()


def status() -> None:
    """Print what was found, and which list crash reads by."""
    opened = opened_session()
    for line in words.status(opened.diagnosis, opened.release):
        print(line)
    print(f"   crash reads: by the {'rebuilt' if is_repaired() else DUMPS_OWN} list")


def watch(leaves: Leaves) -> Iterable[Leaf]:
    """Pass on leaves one by one; where there is a terminal, show how many are done."""
    if not os.isatty(2) or not crash.session().terminal:
        return leaves
    from rich.console import Console  # noqa: PLC0415  (costs a tenth of a second)
    from rich.progress import track  # noqa: PLC0415

    terminal = Console(file=os.fdopen(os.dup(2), "w"))
    return track(leaves, "p2mfix: comparing leaves", console=terminal, transient=True)


def screen() -> Screen:
    """Return where the output of this command goes."""
    session = crash.session()
    colour = session.output_terminal
    width = min(os.get_terminal_size(1).columns, WIDEST) if colour else 80
    files = (session.dumpfile, session.namelist, session.namelist_debug)
    return Screen(width, colour, watch, [path for path in files if path])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command ``p2m``."""
    top = argparse.ArgumentParser(
        prog="p2m",
        description="Shows and repairs the map from pseudo-physical to machine frames"
        " that crash reads a Xen dom0 by. Numbers are hexadecimal.",
    )
    actions = top.add_subparsers(dest="action", metavar="action")
    actions.add_parser("status", help="what was found, and which list crash reads by (default)")
    for view in VIEWS.values():
        view.fill(actions.add_parser(view.name, help=view.summary))
    actions.add_parser("fix", help="repair; go on to the full session, or start a full one anew")
    actions.add_parser("undo", help="give crash its own list back")
    return top


ACTIONS = {None: status, "status": status, "fix": fix, "undo": undo}


@command("p2m", parser=parser(), help="map of a Xen dom0's frames", minimal=True)
def p2m(args: argparse.Namespace) -> None:
    """The command ``p2m``."""
    if crash.session().live and args.action in (None, "status", "pfn"):
        show_live(args.number if args.action == "pfn" else None)
    elif args.action in VIEWS:
        show(VIEWS[args.action], opened_session().diagnosis, args, screen())
    else:
        ACTIONS[args.action]()
