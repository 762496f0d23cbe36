# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a p2m: ``list``, ``verify``, ``pfn``, ``mfn``, ``va`` and ``map``.

Each view is a command of the shell (``p2mfix list VMCORE VMLINUX``) and of a session of crash
(``p2m list``), with the same options and the same output.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import P2mError
from ..outputs import write_file
from ..p2m.diagnosis import Diagnosis
from ..p2m.ranges import ranges
from ..p2m.verify import DIRECT_MAP, M2P, Leaf, Leaves, Verification, sample, verify
from . import words
from .pictures import drawing
from .textmap import TextMap, text_map

__all__ = ["VIEWS", "Screen", "View", "show"]

SAMPLE = 1024  # leaves that verify compares without --all
CELLS = 1600  # at most, in a map as JSON


@dataclass(frozen=True)
class Screen:
    """Where a view is shown: how many columns, in colour or not, and how to show progress.

    ``watch`` passes the leaves of ``verify`` on one by one.  ``inputs`` are the files that are
    open: no picture may replace one of them.
    """

    width: int = 80
    colour: bool = False
    watch: Callable[[Leaves], Iterable[Leaf]] = iter
    inputs: Sequence[str] = ()


@dataclass(frozen=True)
class View:
    """A view: its name, its help (``summary``, ``description``), its arguments and its output.

    ``text`` yields lines for people, ``data`` returns a dictionary for JSON.  Both raise
    :class:`P2mError` where an argument does not fit the p2m, or a leaf cannot be read.
    """

    name: str
    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    text: Callable[[Diagnosis, argparse.Namespace, Screen], Iterator[str]]
    data: Callable[[Diagnosis, argparse.Namespace, Screen], dict[str, Any]]

    def fill(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of this view to a parser."""
        self.add_arguments(parser)
        parser.add_argument(
            "--json", action="store_true", help="print JSON, for scripts; its numbers are decimal"
        )


def show(view: View, found: Diagnosis, args: argparse.Namespace, screen: Screen) -> None:
    """Print a view of a p2m, or write the pictures that ``args`` asks for.

    :raises P2mError: an argument does not fit the p2m, a leaf cannot be read, or a picture
        cannot be written.
    """
    if args.json:
        print(json.dumps(view.data(found, args, screen)))
        return
    for line in view.text(found, args, screen):
        print(line)


# --------------------------------------------------------------------------
# list


def _list_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    yield f"{'FIRST':>10} {'LAST':>10} {'PAGES':>14}  {'KIND':<9} KNOWN FROM"
    for part in ranges(found):
        yield (
            f"{part.first:>10x} {part.last:>10x} {part.pages:>14,}"
            f"  {part.kind.value:<9} {part.source.value}"
        )


def _list_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    listed = [
        {
            "first": part.first,
            "last": part.last,
            "pages": part.pages,
            "kind": part.kind.value,
            "source": part.source.value,
        }
        for part in ranges(found)
    ]
    return {"max_pfn": found.table.max_pfn, "ranges": listed}


# --------------------------------------------------------------------------
# verify


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help=f"compare all leaves, not a sample of {SAMPLE:,}"
    )


def _verified(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Verification:
    return verify(found, sample(found, sys.maxsize if args.all else SAMPLE), screen.watch)


def _verify_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    done = _verified(found, args, screen)
    part = "all" if done.looked_at == done.leaves else "a sample"
    yield f"{done.pages:,} pages in {done.looked_at:,} of {done.leaves:,} leaves ({part}):"
    for name, tally in ((DIRECT_MAP, done.direct_map), (M2P, done.m2p)):
        absent = f", has nothing for {tally.absent:,}" if tally.absent else ""
        yield f"{name:>24}: agrees on {tally.agree:,}, disagrees on {tally.differ:,}{absent}"
    for wrong in done.disagreements:
        has = "mfn" if wrong.table == DIRECT_MAP else "pfn"
        yield (
            f"  pfn {wrong.first:x}-{wrong.last:x}: the p2m has mfn {wrong.p2m:x} for the first,"
            f" the {wrong.table} {has} {wrong.other:x}"
        )


def _verify_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    done = _verified(found, args, screen)
    return {
        "leaves": done.leaves,
        "compared_leaves": done.looked_at,
        "pages": done.pages,
        "direct_map": vars(done.direct_map),
        "machine_to_phys": vars(done.m2p),
        "disagreements": [vars(wrong) for wrong in done.disagreements],
    }


# --------------------------------------------------------------------------
# pfn, mfn


def hexadecimal(text: str) -> int:
    """Return the number that is written in hexadecimal, with or without 0x, of up to 64 bits.

    :raises argparse.ArgumentTypeError: the text is no such number.
    """
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", text):
        raise argparse.ArgumentTypeError(f"{text}: not a hexadecimal number of up to 64 bits")
    return int(text, 16)


def _number_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "number", type=hexadecimal, metavar="NUMBER", help="a frame number, hexadecimal"
    )


def _checked_pfn(found: Diagnosis, pfn: int) -> int:
    if pfn >= found.table.max_pfn:
        raise P2mError(f"pfn {pfn:x} is above the last one, {found.table.max_pfn - 1:x}")
    return pfn


def _pfn_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    pfn = _checked_pfn(found, args.number)
    yield f"pfn {pfn:x}: {found.kind(pfn).value}"
    yield f"   dump's list: {words.entry(found, found.published, pfn)}"
    yield f"  rebuilt list: {words.entry(found, found.rebuilt, pfn)}"


def _pfn_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    pfn = _checked_pfn(found, args.number)
    return {
        "pfn": pfn,
        "kind": found.kind(pfn).value,
        "dump's list": words.entry(found, found.published, pfn),
        "rebuilt list": words.entry(found, found.rebuilt, pfn),
    }


def _mfn_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    pfns = [f"{pfn:x}" for pfn in found.pfns_of(args.number)]
    owner = f"pfn {', '.join(pfns)}" if pfns else f"not {words.whose(found)} memory"
    yield f"mfn {args.number:x}: {owner}"


def _mfn_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    return {"mfn": args.number, "pfns": list(found.pfns_of(args.number))}


# --------------------------------------------------------------------------
# va


def _va_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address", metavar="ADDRESS", help="a kernel virtual address, hexadecimal, or a symbol"
    )


def _address(found: Diagnosis, text: str) -> int:
    try:
        vaddr: int | None = hexadecimal(text)
    except argparse.ArgumentTypeError:
        vaddr = found.kernel.symbols.address(text)
    if not vaddr:
        raise P2mError(f"{text}: neither a hexadecimal address nor a symbol of the kernel")
    if vaddr >> 47 not in (0, 0x1FFFF):
        raise P2mError(f"{text}: not canonical: in an address of x86-64 bits 47 to 63 are equal")
    return vaddr


def _va_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    vaddr = _address(found, args.address)
    steps = list(found.kernel.tables.walk(vaddr))
    yield f"virtual address {vaddr:x}, page tables at {found.kernel.root.maddr:x}"
    for step in steps:
        kind = "" if step.present else ", not present"
        if step.present and step.is_page and step.page_size > 4096:
            kind = f", a page of {step.page_size >> 20} MiB"
        yield f"  {step.name}: {step.entry_maddr:>12x} => {step.entry:x}{kind}"
    if not steps[-1].present:
        raise P2mError(f"virtual address {vaddr:x} is not mapped")
    maddr = steps[-1].target(vaddr)
    yield f"  machine address {maddr:x} (mfn {maddr >> 12:x})"
    pfns = list(found.pfns_of(maddr >> 12))
    if not pfns:
        yield f"  not {words.whose(found)} memory: no pfn has this mfn"
    for pfn in pfns:
        yield f"  pseudo-physical address {(pfn << 12) | (maddr & 4095):x} (pfn {pfn:x})"
        yield f"     dump's list: {words.entry(found, found.published, pfn)}"
        yield f"    rebuilt list: {words.entry(found, found.rebuilt, pfn)}"


def _va_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    vaddr = _address(found, args.address)
    steps = list(found.kernel.tables.walk(vaddr))
    maddr = steps[-1].target(vaddr) if steps[-1].present else None
    return {
        "address": vaddr,
        "root": found.kernel.root.maddr,
        "steps": [
            {"level": step.name, "entry_maddr": step.entry_maddr, "entry": step.entry}
            for step in steps
        ],
        "maddr": maddr,
        "pfns": [] if maddr is None else list(found.pfns_of(maddr >> 12)),
    }


# --------------------------------------------------------------------------
# map


def _map_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="OUT", help="write a picture, as SVG, into this file")
    parser.add_argument("--png", metavar="OUT", help="write a picture, as PNG, into this file")


def _map_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    for out, kind in ((args.svg, "svg"), (args.png, "png")):
        if out:
            write_file(out, drawing(found, kind), screen.inputs)
    if not args.svg and not args.png:
        yield from text_map(found, screen.width, colour=screen.colour).splitlines()


def _map_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    return TextMap.of(found, CELLS).as_dict()


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


VIEWS = {
    view.name: view
    for view in (
        View(
            "list",
            "print the p2m as ranges, with the source of each (list, page tables or both)",
            "In the last column, list is the dump's list, and a shared page is one page of the p2m"
            " that stands for many leaves without memory. Frame numbers are hexadecimal, counts of"
            " pages decimal.",
            _no_arguments,
            _list_text,
            _list_data,
        ),
        View(
            "verify",
            "compare the p2m with the direct map and with Xen's machine-to-phys table",
            "Each disagreement is a range of pfns. Without --all, verify compares a sample of"
            f" up to {SAMPLE:,} leaves.",
            _verify_arguments,
            _verify_text,
            _verify_data,
        ),
        View(
            "pfn",
            "show the p2m's entry for a pseudo-physical frame, by both lists",
            "Plain crash reads by the dump's list; the rebuilt list is what a correct kernel would"
            " have published.",
            _number_argument,
            _pfn_text,
            _pfn_data,
        ),
        View(
            "mfn",
            "find the pfns that have a machine frame as their memory",
            "Where no pfn has it, the machine frame is not this domain's memory.",
            _number_argument,
            _mfn_text,
            _mfn_data,
        ),
        View(
            "va",
            "show how a kernel virtual address translates, level by level",
            "The output has each page-table entry on the way, the machine address, its pfn, and its"
            " entry by both lists. A symbol needs the vmlinux of the dump.",
            _va_arguments,
            _va_text,
            _va_data,
        ),
        View(
            "map",
            "show the p2m as a map, in the terminal or in a picture file",
            "The map shows which pfns are memory, which memory the dump's list does not have, and"
            " the kind of the other pfns. A picture also shows where the frames are in machine"
            " memory.",
            _map_arguments,
            _map_text,
            _map_data,
        ),
    )
}
