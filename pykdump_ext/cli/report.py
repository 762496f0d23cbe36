# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix report VMCORE [VMLINUX]``: why the host died, on one page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..outputs import write_file
from ..parts import PARTS, chosen
from ..parts.case import Case
from ..parts.document import Document, as_lines, make
from .files import open_with_namelist

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

SUMMARY = "report why the host died: one page of all that the dump tells"
DESCRIPTION = """\
Report why a Xen host died, on one page: what happened, dom0's log, Xen's
console, what each cpu ran, blocked tasks, memory, domains, the p2m, and what
could not be found. It works by the dump alone; with dom0's vmlinux and drgn it
also has what dom0's kernel knows.

The parts:
""" + "\n".join(
    f"  {name:<11} {part.title}" + (f" (needs {part.needs})" if part.needs else "")
    for name, part in PARTS.items()
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix report`` to its parser."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="the dump, or all files of a split dump; and dom0's vmlinux if you have it",
    )  # fmt: skip
    parser.add_argument("--xen", metavar="XEN_SYMS", help="Xen's symbols: xen-syms, or its map")
    parser.add_argument(
        "-o", dest="output", metavar="FILE",
        help="write the report to a file: a web page if its name ends with .html, JSON if with"
        " .json, else text",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", default="", metavar="PART,...", help="only these parts")


def run(args: argparse.Namespace) -> None:
    """Print the report, or write it to a file.

    :raises P2mError: the dump cannot be opened, or the file cannot be written.
    """
    parts = chosen(args.only.split(","))
    suffix = Path(args.output or "").suffix.lower()
    if suffix in (".html", ".htm"):
        from ..parts.page import page  # noqa: PLC0415  (Jinja2 may not be installed)

        page(Document("", [], 0))  # what it lacks is said before the work is done
    opened = open_with_namelist(args.files)
    made = make(Case(opened, args.xen), parts)
    if suffix in (".html", ".htm"):
        content = page(made)
    elif args.json or suffix == ".json":
        content = f"{json.dumps(made.as_dict())}\n".encode()
    else:
        content = "".join(f"{line}\n" for line in as_lines(made)).encode()
    if args.output:
        inputs = [*opened.paths, *(str(namelist.path) for namelist in opened.namelists)]
        write_file(args.output, content, [*inputs, *filter(None, [args.xen])])
    else:
        print(content.decode(), end="")
