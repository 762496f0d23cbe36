# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix diagnose FILE...``: a report of each dump, without crash."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor

from ..errors import P2mError
from ..linux.namelist import Namelist
from ..outputs import write_file
from ..reports.report import Report, lines, one_line, report_files
from .files import sort_files

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
        help="print a JSON object for each dump, on a line; its numbers are decimal",
    )
    parser.add_argument(
        "--jobs",
        type=at_least_one,
        default=1,
        metavar="N",
        help="work on N dumps at once (default: 1)",
    )
    parser.add_argument(
        "--html", metavar="OUT", help="write the report of one dump, with pictures, as a web page"
    )


def at_least_one(text: str) -> int:
    """Return a number of jobs, from the text of an option.

    :raises argparse.ArgumentTypeError: the text is not a whole number of at least 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number of at least 1")
    return int(text)


def reports(
    dumps: Sequence[Sequence[str]], namelists: Sequence[str], jobs: int
) -> Iterator[Report]:
    """Yield the report of each dump, in order; an error in one dump does not stop the others."""
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        waiting = [(dump, pool.submit(_report, dump, namelists)) for dump in dumps]
        for dump, future in waiting:
            yield _result(dump, future)


def _report(dump: Sequence[str], namelists: Sequence[str]) -> Report:
    return report_files(dump, [Namelist(path) for path in namelists])[0]


def _result(dump: Sequence[str], future: Future[Report]) -> Report:
    try:
        return future.result()
    except Exception as error:
        return Report(" ".join(dump), problems=[f"{type(error).__name__}: {error}"])


def write_page(path: str, dump: Sequence[str], namelists: Sequence[Namelist]) -> Report:
    """Write the report of a dump as a web page, and return the report.

    :raises P2mError: the file cannot be written, or a library for pictures is not installed.
    """
    from ..reports.html_page import page  # noqa: PLC0415  (only this option needs it)

    result, found = report_files(dump, namelists)
    inputs = [*dump, *(str(namelist.path) for namelist in namelists)]
    write_file(path, page(result, found), inputs)
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
        made = reports(dumps, [str(namelist.path) for namelist in namelists], args.jobs)
    else:
        made = iter([report_files(dumps[0], namelists)[0]])
    well = True
    for found in made:
        well = well and found.verdict != "unknown"
        if args.json:
            print(json.dumps(found.as_dict()))
        elif len(dumps) > 1:
            print(one_line(found))
        elif not args.html:
            print("\n".join(lines(found)))
        sys.stdout.flush()
    if not well:
        raise SystemExit(1)
