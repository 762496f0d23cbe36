# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a whole p2m: ``list``, ``verify`` and ``map``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...outputs import write_file
from ...p2m.diagnosis import Diagnosis
from ...p2m.m2p import M2P
from ...p2m.ranges import ranges
from .. import words
from ..pictures import drawing
from ..textmap import TextMap, text_map
from .view import Screen, View, no_arguments

if TYPE_CHECKING:
    from ...p2m.verify import Disagreement, Verification

__all__ = ["LIST", "MAP", "VERIFY"]

SAMPLE = 1024  # leaves that verify compares without --all
CELLS = 1600  # at most, in a map as JSON


def _list_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    width = max(9, len(found.table.kind_of_missing.value))
    yield f"{'FIRST':>10} {'LAST':>10} {'PAGES':>14}  {'KIND':<{width}} KNOWN FROM"
    for part in ranges(found):
        yield (
            f"{part.first:>10x} {part.last:>10x} {part.pages:>14,}"
            f"  {part.kind.value:<{width}} {part.source.value}"
        )


def _list_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    listed = [
        {
            "first": words.hexadecimal(part.first),
            "last": words.hexadecimal(part.last),
            "pages": part.pages,
            "kind": part.kind.value,
            "source": part.source.value,
        }
        for part in ranges(found)
    ]
    return {"max_pfn": found.table.max_pfn, "ranges": listed}


LIST = View(
    "list",
    "print the p2m as ranges, with the source of each (list, page tables or both)",
    "In the last column, list is the dump's list, and a shared page is one page of the p2m"
    " that stands for many leaves without memory. Frame numbers are hexadecimal, counts of"
    " pages decimal.",
    no_arguments,
    _list_text,
    _list_data,
)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help=f"compare all leaves, not a sample of {SAMPLE:,}"
    )


def _verified(found: Diagnosis, args: argparse.Namespace) -> Verification:
    from ...p2m.verify import sample, verify  # noqa: PLC0415  (numpy takes 0.1 s)

    return verify(found, sample(found, sys.maxsize if args.all else SAMPLE))


def _verify_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    from ...p2m.verify import DIRECT_MAP  # noqa: PLC0415

    done = _verified(found, args)
    part = "all" if done.looked_at == done.leaves else "a sample"
    yield f"{done.pages:,} pages in {done.looked_at:,} of {done.leaves:,} leaves ({part}):"
    for name, tally in ((DIRECT_MAP, done.direct_map), (M2P, done.m2p)):
        absent = f", has nothing for {tally.absent:,}" if tally.absent else ""
        yield f"{name:>24}: agrees on {tally.agree:,}, disagrees on {tally.differ:,}{absent}"
    for wrong in done.disagreements():
        has = "mfn" if wrong.table == DIRECT_MAP else "pfn"
        yield (
            f"  pfn {wrong.first:x}-{wrong.last:x}: the p2m has mfn {wrong.p2m:x} for the first,"
            f" the {wrong.table} {has} {wrong.other:x}"
        )


def _verify_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    done = _verified(found, args)
    return {
        "leaves": done.leaves,
        "compared_leaves": done.looked_at,
        "pages": done.pages,
        "direct_map": vars(done.direct_map),
        "m2p": vars(done.m2p),
        "disagreements": [_disagreement(wrong) for wrong in done.disagreements()],
    }


def _disagreement(wrong: Disagreement) -> dict[str, Any]:
    numbers = ("first", "last", "p2m", "other")
    frames = {name: words.hexadecimal(getattr(wrong, name)) for name in numbers}
    return {"table": wrong.table, **frames}


VERIFY = View(
    "verify",
    "compare the p2m with the direct map and with Xen's machine-to-phys table",
    "Each disagreement is a range of pfns. Without --all, verify compares a sample of"
    f" up to {SAMPLE:,} leaves.",
    _verify_arguments,
    _verify_text,
    _verify_data,
)


def _map_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="OUT", help="write a picture, as SVG, into this file")
    parser.add_argument("--png", metavar="OUT", help="write a picture, as PNG, into this file")


def _write_pictures(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> None:
    for out, kind in ((args.svg, "svg"), (args.png, "png")):
        if out:
            write_file(out, drawing(found, kind), screen.inputs)


def _map_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    _write_pictures(found, args, screen)
    if not args.svg and not args.png:
        yield from text_map(found, screen.width, colour=screen.colour).splitlines()


def _map_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    _write_pictures(found, args, screen)
    return TextMap.of(found, CELLS).as_dict()


MAP = View(
    "map",
    "show the p2m as a map, in the terminal or in a picture file",
    "The map shows which pfns are memory, which memory the dump's list does not have, and"
    " the kind of the other pfns. A picture also shows where the frames are in machine"
    " memory.",
    _map_arguments,
    _map_text,
    _map_data,
)
