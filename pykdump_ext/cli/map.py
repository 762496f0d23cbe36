"""``p2mfix map``: pictures of a dump's p2m."""

from __future__ import annotations

import argparse
import shutil
import sys

from ..errors import P2mError
from ..pictures import add_picture_arguments, show
from ..report import report_and_diagnosis
from .diagnose import found_files

SUMMARY = "show dom0's memory as a picture, in the terminal or in a file"
DESCRIPTION = """\
Shows pfn space as text: which frames are memory, which of these the dump's list does not have,
and what the others are; in colour on a terminal. Or draws it into a file, with a second picture of
where the frames lie in machine memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="the dump, and dom0's vmlinux")
    add_picture_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    :raises P2mError: the dump cannot be diagnosed, or a picture not written.
    """
    dumps, namelists = found_files(args.files)
    result, found = report_and_diagnosis(dumps, namelists)
    if found is None:
        raise P2mError("; ".join(result.problems) or f"{result.dump}: {result.verdict}")
    terminal = sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns, 120) if terminal else 80
    show(found, args, width, terminal, args.files)
