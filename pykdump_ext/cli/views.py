"""``p2mfix list | verify | pfn | mfn | va | map``: the views of a dump's p2m, without crash."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable

from ..errors import P2mError
from ..p2m.verify import Leaf, Leaves
from ..reports.report import diagnosis_of
from ..reports.views import VIEWS, Screen, View, show
from . import Command
from .files import open_one

__all__ = ["VIEW_COMMANDS"]

WIDEST = 120  # columns of a map


class ViewCommand:
    """The command that shows a view of the dump among its files."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.SUMMARY = view.summary
        self.DESCRIPTION = f"{view.summary[0].upper()}{view.summary[1:]}.\n\n{view.description}"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the view, and the files."""
        self.view.fill(parser)
        parser.add_argument(
            "files",
            nargs="+",
            metavar="FILE",
            help="the dump, and dom0's vmlinux where it is at hand",
        )

    def run(self, args: argparse.Namespace) -> None:
        """Show the view.

        :raises P2mError: the dump cannot be diagnosed, or a picture not written.
        """
        opened = open_one(args.files)
        if opened.note is None:
            raise P2mError(f"{' '.join(opened.paths)}: not a dump of a Xen host")
        terminal = sys.stdout.isatty()
        width = min(shutil.get_terminal_size().columns, WIDEST) if terminal else 80
        screen = Screen(width, terminal, watch, args.files)
        show(self.view, diagnosis_of(opened), args, screen)


def watch(leaves: Leaves) -> Iterable[Leaf]:
    """Pass on leaves one by one; on a terminal, show how many have been compared."""
    if not sys.stderr.isatty():
        return leaves
    from rich.console import Console  # noqa: PLC0415  (costs a tenth of a second)
    from rich.progress import track  # noqa: PLC0415

    terminal = Console(stderr=True)
    return track(leaves, "p2mfix: comparing leaves", console=terminal, transient=True)


VIEW_COMMANDS: dict[str, Command] = {name: ViewCommand(view) for name, view in VIEWS.items()}
