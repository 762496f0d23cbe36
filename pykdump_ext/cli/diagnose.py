# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix diagnose FILE...``: a report of each dump, without crash."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial

from ..errors import P2mError
from ..launch.crash_versions import installed_crash, needs_help
from ..linux.kernel import Symbols
from ..linux.namelist import Namelist
from ..outputs import write_file
from ..parts.p2m import p2m_page
from ..reports.report import Report, lines, one_line, report_files
from .files import sort_files
from .processes import ENDED, add_jobs, in_processes

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

SUMMARY = "report what is wrong with dumps, and what to type next"
DESCRIPTION = """\
For each dump, report its format, Xen and kernel versions, the page tables of
each cpu, how much of dom0's memory the dump's list covers, what is wrong with
the list, what crash prints because of it, and the command to type next.

Each dump is matched with its own vmlinux among those given, by the kernel's
banner. Without a vmlinux the report has what the dump alone can give. A folder
stands for all dumps in it; the files of a split dump are one dump. Several
dumps get one line each.

The exit status is 1 if the verdict on a dump is unknown, else 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix diagnose`` to its parser."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="dumps, folders with dumps, vmlinux files"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object for each dump, on a line: addresses and frames as hexadecimal"
        " text, counts as numbers",
    )
    add_jobs(parser)
    parser.add_argument(
        "--html", metavar="OUT", help="write the report of one dump, with pictures, as a web page"
    )


def reports(
    dumps: Sequence[Sequence[str]], namelists: Sequence[Sequence[str]], jobs: int
) -> Iterator[Report]:
    """Yield the report of each dump, in order; an error in one dump does not stop the others."""

    def work(dump: Sequence[str]) -> Report:
        return report_files(dump, [Namelist(*files) for files in namelists], is_helped)[0]

    def failed(number: int, why: str) -> Report:
        if why.startswith(ENDED):
            why += ": run p2mfix diagnose on it alone"
        return Report(" ".join(dumps[number]), problems=[why])

    yield from in_processes([partial(work, dump) for dump in dumps], jobs, failed)


@cache
def _version() -> str:
    try:
        return installed_crash()[1]
    except P2mError:
        return ""  # no crash is needed here


def is_helped(release: str, symbols: Symbols) -> bool:
    """Return True when the installed crash needs p2mfix even for the whole list of a kernel."""
    return needs_help(_version(), release, symbols)


def write_page(path: str, dump: Sequence[str], namelists: Sequence[Namelist]) -> Report:
    """Write the report of a dump as a web page, and return the report.

    :raises P2mError: the file cannot be written, or a library for pictures is not installed.
    """
    result, found = report_files(dump, namelists, is_helped)
    inputs = [*dump, *(str(namelist.path) for namelist in namelists)]
    write_file(path, p2m_page(result, found), inputs)
    return result


def run(args: argparse.Namespace) -> None:
    """Print the reports.

    :raises P2mError: there is no dump among the files, or ``--html`` has several.
    :raises SystemExit: the verdict on a dump is unknown; with status 1.
    """
    dumps, namelists = sort_files(args.files)
    if args.html:
        if len(dumps) != 1:
            raise P2mError(f"--html takes one dump, and these are {len(dumps)}")
        made = iter([write_page(args.html, dumps[0], namelists)])
    elif len(dumps) > 1:
        made = reports(dumps, [namelist.given for namelist in namelists], args.jobs)
    else:
        made = iter([report_files(dumps[0], namelists, is_helped)[0]])
    well = True
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for found in made:
        well = well and found.verdict != "unknown"
        if args.json:
            print(json.dumps(found.as_dict()))
        elif len(dumps) > 1:
            print(one_line(found))
        elif not args.html:
            print("\n".join(lines(found, width)))
        sys.stdout.flush()
    if not well:
        raise SystemExit(1)
