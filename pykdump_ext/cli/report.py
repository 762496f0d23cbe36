# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix report VMCORE [VMLINUX]``: why the host died, on one page."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import NotPvError, P2mError, printable
from ..limits import limited_memory
from ..machine.dumps import is_dump, open_dump
from ..opened import OpenedDump
from ..outputs import write_file
from ..parts import PARTS, chosen
from ..parts.case import Case
from ..parts.document import Document, as_lines, make
from ..parts.index import index_page, summary, with_summary
from ..parts.page import page
from ..parts.part import Part, Result
from .files import open_one, open_with_namelist, sort_files
from .processes import add_jobs, in_processes

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

HTML = (".html", ".htm")
LONGEST = 200  # bytes of a page's name; a file system takes 255, with a number and the ending
FILES = (*HTML, ".json", ".jsonl", ".txt")  # names of a file, not of a folder of pages
Made = tuple[dict[str, Any], "str | None"]  # a report for JSON, and why it has no page
SUMMARY = "report why the host died: one page of all that the dump tells"
DESCRIPTION = """\
Report why a Xen host died, on one page: what happened, dom0's log, Xen's
console, what each cpu ran, blocked tasks, memory, domains, the p2m, and what
could not be found. It works by the dump alone; with dom0's vmlinux and drgn it
also has what dom0's kernel knows.

Of several dumps it writes a page each and an index that groups them by what
killed the hosts: p2mfix report FOLDER -o PAGES --jobs 4. With --json it prints
a JSON object for each dump, on a line. A folder stands for all dumps in it.

The parts:
""" + "\n".join(
    f"  {name:<11} {part.title}" + (f" (needs {part.needs})" if part.needs else "")
    for name, part in PARTS.items()
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix report`` to its parser."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="the dump, or all files of a split dump, or folders with dumps; and dom0's vmlinux if"
        " you have it",
    )  # fmt: skip
    parser.add_argument("--xen", metavar="XEN_SYMS", help="Xen's symbols: xen-syms, or its map")
    parser.add_argument(
        "-o", dest="output", metavar="FILE",
        help="write the report to a file: a web page if its name ends with .html, JSON if with"
        " .json, else text; for many dumps, the folder of the pages",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", default="", metavar="PART,...", help="only these parts")
    add_jobs(parser)


def run(args: argparse.Namespace) -> None:
    """Print the report, or write it to a file; of many dumps, write a folder of pages.

    :raises P2mError: the dump cannot be opened, or the file cannot be written.
    """
    parts = chosen(name.strip() for name in args.only.split(","))
    if args.json and Path(args.output or "").suffix.lower() in HTML:
        raise P2mError(
            f"{args.output}: is the name of a web page, and there is --json: give one of them"
        )
    dumps, _ = sort_files(args.files)
    check_files(args.files, dumps)
    if len(dumps) > 1 or wants_folder(args):
        run_many(args, parts)
    else:
        with limited_memory():
            run_one(args, parts, " ".join(dumps[0]))


def check_files(paths: Sequence[str], dumps: Sequence[Sequence[str]]) -> None:
    """Raise the error of a file that is no dump and no vmlinux, where one dump seems to be meant.

    :raises P2mError: there is such a file, such as a vmlinux whose name is mistyped.
    """
    others = [path for path in paths if [path] in dumps and not is_dump(path)]
    if len(dumps) - len(others) == 1:
        for path in others:
            open_dump([path])


def wants_folder(args: argparse.Namespace) -> bool:
    """Return True if a folder is given for dumps, and one for pages.

    A folder may have one dump today and several tomorrow: then it has an index each time.
    """
    if not args.output or not any(Path(path).is_dir() for path in args.files):
        return False
    return Path(args.output).is_dir() or not is_file_name(args.output)


def is_file_name(path: str) -> bool:
    """Return True if the name of what is to be written is one of a file, by its ending."""
    return Path(path).suffix.lower() in FILES


def without_report(dump: str, why: str) -> dict[str, Any]:
    """Return, for JSON, that there is no report of a dump, and why."""
    shown = printable(dump), printable(why)
    return {"dump": shown[0], "problem": shown[1], "parts": [], "missing": []}


def run_one(args: argparse.Namespace, parts: Sequence[Part], dump: str) -> None:
    """Print the report of a dump, or write it to a file.

    With --json a dump that cannot be opened has its line as well, as one of many has.

    :raises P2mError: the dump cannot be opened, or the file cannot be written.
    """
    html = Path(args.output or "").suffix.lower() in HTML
    if html:
        page(Document("", [], 0))  # what it lacks is said before the work is done
    try:
        try:
            opened = open_with_namelist(args.files)
        except NotPvError:  # what Xen knows is reported all the same
            opened = open_one(args.files)
    except P2mError as error:
        if args.json and not args.output:
            print(json.dumps(with_summary(without_report(dump, str(error)))))
        raise
    made = make(Case(opened, args.xen, pictures=html), parts)
    if html:
        content = page(made)
    elif args.json or Path(args.output or "").suffix.lower() == ".json":
        content = f"{json.dumps(with_summary(made.as_dict()))}\n".encode()
    else:
        content = "".join(f"{line}\n" for line in as_lines(made)).encode()
    if args.output:
        inputs = [*opened.paths, *(str(namelist.path) for namelist in opened.namelists)]
        write_file(args.output, content, [*inputs, *filter(None, [args.xen])])
    else:
        show(content.decode())


def show(text: str) -> None:
    """Print a text; what the terminal's character set does not have is shown as an escape."""
    coding = sys.stdout.encoding or "utf-8"
    print(text.encode(coding, "backslashreplace").decode(coding), end="")


def run_many(args: argparse.Namespace, parts: Sequence[Part]) -> None:
    """Write a page for each dump and an index of them, or print JSON lines.

    :raises P2mError: neither was asked for, or a file cannot be written. A page that cannot be
        written takes no other with it, and the index has its dump.
    """
    dumps, namelists = sort_files(args.files)
    if not args.json and not args.output:
        raise P2mError(f"these are {len(dumps)} dumps: give -o FOLDER for pages, or --json")
    if args.output and is_file_name(args.output) and not Path(args.output).is_dir():
        raise P2mError(
            f"{args.output}: pages of {len(dumps)} dumps go into a folder, and this is the name of"
            " a file: give -o FOLDER"
        )
    if args.output and not any(part.name == "happened" for part in parts):
        parts = [*chosen(["happened"]), *parts]  # the index groups dumps by it
    if args.output:
        index_page([])  # what it lacks is said before the work is done
        Path(args.output).mkdir(parents=True, exist_ok=True)
    names = page_names(dumps)
    inputs = [*(path for dump in dumps for path in dump), *(str(n.path) for n in namelists)]

    def written(number: int, made: Document) -> str | None:
        """Write the page of a dump; return why it cannot be written."""
        try:
            write_file(str(Path(args.output) / names[number]), page(made), inputs)
        except P2mError as error:
            return str(error)
        return None

    def work(number: int) -> Made:
        paths = dumps[number]
        opened = OpenedDump(open_dump(paths), namelists, paths)
        if opened.note is None:
            raise P2mError(f"{' '.join(paths)}: not a dump of a Xen host")
        with suppress(NotPvError):
            opened.look_for_namelist()
        with limited_memory():
            made = make(Case(opened, args.xen, pictures=bool(args.output)), parts)
            return made.as_dict(), written(number, made) if args.output else None

    def failed(number: int, why: str) -> Made:
        dump = printable(" ".join(dumps[number]))
        result = Result("happened", "What happened", problem=printable(why))
        made = Document(dump, [result], 0)
        no_page = written(number, made) if args.output else None
        return without_report(dump, why), no_page

    tasks = [partial(work, number) for number in range(len(dumps))]
    found, problems, unread = [], [], []
    for number, (made, no_page) in enumerate(in_processes(tasks, args.jobs, failed)):
        if args.json:
            print(json.dumps(with_summary(made)), flush=True)
        problems += [no_page] if no_page else []
        unread += [made["problem"]] if "problem" in made else []
        found.append(summary(made, "" if no_page else names[number]))
    if args.output:
        write_file(str(Path(args.output) / "index.html"), index_page(found), inputs)
    if problems:
        raise P2mError(f"{len(problems)} of {len(dumps)} pages were not written: {problems[0]}")
    if unread:
        raise P2mError(f"{len(unread)} of {len(dumps)} dumps have no report: {unread[0]}")


def page_names(dumps: Sequence[Sequence[str]]) -> list[str]:
    """Return the name of the page of each dump: its folder's and its own name, each once."""
    names: list[str] = []
    for dump in dumps:
        name = re.sub(r"[^\w.-]+", "_", "-".join(Path(dump[0]).absolute().parts[-2:]).strip("/"))
        name = name.encode()[-LONGEST:].decode(errors="ignore")
        others = (f"{name}-{number}" for number in count(2))
        while f"{name}.html" in names:
            name = next(others)
        names.append(f"{name}.html")
    return names
