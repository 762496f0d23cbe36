# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix domains VMCORE...``: a table of the Xen host's domains."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..errors import ReadError
from ..reports.views import JSON_HELP
from ..reports.words import hexadecimal
from ..xen.domains import Domain
from ..xen.frame_table import Owned
from ..xen.shared_info import LIST_INVALID
from .files import open_one

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

COLUMNS = (
    ("id", "ID"),
    ("kind", "KIND"),
    ("pages", "PAGES"),
    ("max_pfn", "MAX_PFN"),
    ("frame_list", "LIST"),
    ("p2m_cr3", "P2M_CR3"),
    ("cpus", "CPUS"),
)
SUMMARY = "list the domains of the Xen host, and where each has its p2m"
DESCRIPTION = """\
List the domains of the Xen host that a dump is of:

  ID, KIND  its id; PV or HVM (to Xen, a PVH domain is an HVM one)
  PAGES     its memory, in pages
  MAX_PFN   the number of its pfns
  LIST      the mfn of the frame list that its kernel published
  P2M_CR3   the machine address of the page tables that map its linear p2m
  CPUS      the physical cpus that used its page tables

MAX_PFN, LIST and P2M_CR3 are hexadecimal."""
ADDRESSES = ("shared_info", "frame_list", "p2m_cr3", "p2m_vaddr")  # and frame numbers
UNKNOWN = "unknown"
NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix domains`` to its parser."""
    parser.add_argument(
        "files", nargs="+", metavar="VMCORE", help="the dump, or the files of a split dump"
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def described(domain: Domain, owned: Owned | None, cpus: list[int]) -> dict[str, Any]:
    """Return the facts about a domain, by name.

    A fact is None where it is unknown, and 0 where the domain has not published it.

    :param cpus: the physical cpus that used its page tables.
    """
    shared = domain.shared
    frame_list = None if shared is None else shared.frame_list_mfn
    return {
        "id": domain.id,
        "kind": UNKNOWN if owned is None else owned.kind,
        "pages": None if owned is None else owned.pages,
        "shared_info": None if shared is None else shared.mfn,
        "max_pfn": None if shared is None else shared.max_pfn,
        "frame_list": 0 if frame_list == LIST_INVALID else frame_list,
        "p2m_cr3": None if shared is None else shared.p2m_cr3,
        "p2m_vaddr": None if shared is None else shared.p2m_vaddr,
        "cpus": cpus,
    }


def shown(name: str, value: Any) -> str:
    """Return a fact as text for the table."""
    if value is None:
        return UNKNOWN
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    if name == "pages":
        return f"{value:,}"
    if isinstance(value, str) or name == "id":
        return str(value)
    return f"{value:x}" if value else NONE


def run(args: argparse.Namespace) -> None:
    """Print the table of domains.

    :raises P2mError: the dump is not one of a Xen host, or cannot be read.
    """
    opened = open_one(args.files)
    xen, domains = opened.xen, opened.domains
    why = opened.dump.incomplete
    problem = f"the dump is incomplete, so pages may be missing here: {why}" if why else None
    owned: dict[int, Owned] = {}
    try:
        owned = xen.owned(domains)
    except ReadError as error:
        problem = f"pages and kinds are unknown: {error}"
    cpus: dict[int | None, list[int]] = {}
    for cpu, cr3 in enumerate(xen.note.cr3s):
        cpus.setdefault(opened.owner(cr3), []).append(cpu)
    found = [described(domain, owned.get(domain.id), cpus.get(domain.id, [])) for domain in domains]
    if args.json:
        hexed = [
            {name: hexadecimal(fact) if name in ADDRESSES else fact for name, fact in one.items()}
            for one in found
        ]
        print(json.dumps({"xen": xen.note.version, "domains": hexed, "problem": problem}))
        return
    table = [[title for _, title in COLUMNS]]
    table += [[shown(name, one[name]) for name, _ in COLUMNS] for one in found]
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    if problem:
        print(problem)
