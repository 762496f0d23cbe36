# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix list | verify | pfn | mfn | va | map``: the views of a dump's p2m, without crash."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap

from ..reports.views import VIEWS, WIDEST, Screen, View, show
from . import HELP_WIDTH, Command
from .files import open_with_namelist

__all__ = ["VIEW_COMMANDS"]


class ViewCommand:
    """A command of ``p2mfix`` that shows a view of one dump."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.SUMMARY = view.summary
        paragraphs = (f"{view.summary[0].upper()}{view.summary[1:]}.", view.description)
        self.DESCRIPTION = "\n\n".join(textwrap.fill(text, HELP_WIDTH) for text in paragraphs)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the view, and the files, to its parser."""
        self.view.fill(parser)
        parser.add_argument(
            "files",
            nargs="+",
            metavar="FILE",
            help="the dump, or all files of a split dump; and dom0's vmlinux if you have it",
        )

    def run(self, args: argparse.Namespace) -> None:
        """Print the view, or write its pictures.

        :raises P2mError: the dump cannot be diagnosed, an argument does not fit it, or a
            picture cannot be written.
        """
        opened = open_with_namelist(args.files)
        terminal = sys.stdout.isatty()
        width = min(shutil.get_terminal_size().columns, WIDEST) if terminal else 80
        inputs = [*opened.paths, *(str(namelist.path) for namelist in opened.namelists)]
        found = opened.diagnosis
        show(self.view, found, args, Screen(width, terminal, inputs))


VIEW_COMMANDS: dict[str, Command] = {name: ViewCommand(view) for name, view in VIEWS.items()}
