"""``p2mfix diagnose``: what is wrong with dumps, and what to do, without crash."""

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

SUMMARY = "say what is wrong with dumps, and what to do; no crash is needed"
DESCRIPTION = """\
Says of each dump what format, Xen and kernel it is, what each cpu's page tables are, how far
the list it publishes covers dom0's memory, which failure that is and what crash says of it, and
the command to type next. Of the namelists that are given, each dump's own is picked by its
banner; without one, what the dump tells by itself is said. Of a folder, all dumps in it are
taken. Several dumps get one line each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="dumps, folders with dumps, and vmlinux files"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line; frames and sizes are decimal"
    )
    parser.add_argument(
        "--jobs",
        type=at_least_one,
        default=1,
        metavar="N",
        help="look at so many dumps at once (1)",
    )
    parser.add_argument(
        "--html", metavar="OUT", help="of one dump: write the findings and pictures as a web page"
    )


def at_least_one(text: str) -> int:
    """Return a number of jobs."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 on")
    return int(text)


def reports(
    dumps: Sequence[Sequence[str]], namelists: Sequence[str], jobs: int
) -> Iterator[Report]:
    """Yield a report of each dump, in their order; nothing in one of them stops the others."""
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
    """Write the report of a dump as a web page, and return it.

    :raises P2mError: it cannot be written, or a library for pictures is not installed.
    """
    from ..reports.page import page  # noqa: PLC0415  (only this option needs it)

    result, found = report_files(dump, namelists)
    inputs = [*dump, *(str(namelist.path) for namelist in namelists)]
    write_file(path, page(result, found), inputs)
    return result


def run(args: argparse.Namespace) -> None:
    """Run the command.

    :raises P2mError: there is no dump among the files.
    """
    dumps, namelists = sort_files(args.files)
    if args.html:
        if len(dumps) != 1:
            raise P2mError("--html is for one dump")
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
