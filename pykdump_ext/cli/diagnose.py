"""``p2mfix diagnose``: what dumps tell of themselves, without crash."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from ..dumps import is_dump
from ..errors import P2mError
from ..namelist import Namelist
from ..pictures import write_page
from ..report import Report, lines, one_line, report, report_and_diagnosis

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


def found_files(paths: Sequence[str]) -> tuple[list[str], list[Namelist]]:
    """Return the dumps among these files and folders, and the namelists.

    :raises P2mError: there is no dump, or a file is neither that nor a namelist.
    """
    dumps, namelists = [], []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  (False, where it cannot be looked at)
            inside = map(str, sorted(Path(path).rglob("*")))
            # what cannot be read is told of
            dumps += [
                file
                for file in inside
                if is_dump(file) or (os.path.isfile(file) and not os.access(file, os.R_OK))  # noqa: PTH113
            ]
        elif is_dump(path):
            dumps.append(path)
        else:
            try:
                namelists.append(Namelist(path))
            except P2mError:
                dumps.append(path)  # whatever it is, the report says what is wrong with it
    if not dumps:
        raise P2mError("there is no dump among these files")
    return dumps, namelists


def reports(dumps: Sequence[str], namelists: Sequence[str], jobs: int) -> Iterator[Report]:
    """Yield a report of each dump, in their order; nothing that is in one stops the others."""
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        waiting = [(dump, pool.submit(_report, dump, namelists)) for dump in dumps]
        for dump, future in waiting:
            yield _result(dump, future)


def _report(dump: str, namelists: Sequence[str]) -> Report:
    return report([dump], [Namelist(path) for path in namelists])


def _result(dump: str, future: Future[Report]) -> Report:
    try:
        return future.result()
    except Exception as error:
        return Report(dump, problems=[f"{type(error).__name__}: {error}"])


def run(args: argparse.Namespace) -> None:
    """Run the command.

    :raises P2mError: it was given nothing to look at.
    """
    dumps, namelists = found_files(args.files)
    paths = [str(namelist.path) for namelist in namelists]
    if args.html:
        if len(dumps) != 1:
            raise P2mError("--html is for one dump")
        page = report_and_diagnosis(dumps, namelists)
        write_page(args.html, *page, args.files)
        made = iter([page[0]])
    elif len(dumps) > 1:
        made = reports(dumps, paths, args.jobs)
    else:
        made = iter([report(dumps, namelists)])
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
