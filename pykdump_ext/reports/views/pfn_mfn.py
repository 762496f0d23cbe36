# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of one frame: ``pfn`` and ``mfn``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from ...errors import P2mError, ReadError
from ...p2m.diagnosis import Diagnosis
from ...p2m.entries import kind_of
from ...p2m.framelist import FrameList
from ...p2m.leaves import PFNS_PER_LEAF
from .. import words
from .view import Screen, View

__all__ = ["HEXADECIMAL", "MFN", "PFN", "entries_data", "hexadecimal"]


HEXADECIMAL = re.compile(r"(0x)?[0-9a-fA-F]{1,16}")


def hexadecimal(text: str) -> int:
    """Return the number that is written in hexadecimal, with or without 0x, of up to 64 bits.

    :raises argparse.ArgumentTypeError: the text is no such number.
    """
    if not HEXADECIMAL.fullmatch(text):
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
    if found.in_identity_leaf(pfn):
        yield "  a list has no leaves of identity pfns: what they hold reads as missing"


def _pfn_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    pfn = _checked_pfn(found, args.number)
    return {
        "pfn": words.hexadecimal(pfn),
        "kind": found.kind(pfn).value,
        **entries_data(found, pfn),
    }


def entries_data(found: Diagnosis, pfn: int) -> dict[str, Any]:
    """Return what both lists have for ``pfn``."""
    return {
        "dumps_list": _entry_data(found, found.published, pfn),
        "rebuilt_list": _entry_data(found, found.rebuilt, pfn),
    }


def _entry_data(found: Diagnosis, frames: FrameList, pfn: int) -> dict[str, Any]:
    """Return what a list has for ``pfn``; None stands for what it has not, or cannot be read."""
    leaf = frames.leaf(pfn // PFNS_PER_LEAF)
    try:
        entry = found.entry(frames, pfn)
    except ReadError:
        entry = None
    return {
        "leaf_mfn": words.hexadecimal(leaf),
        "entry": words.hexadecimal(entry),
        "kind": None if entry is None else kind_of(entry).value,
    }


def _mfn_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    pfns = [f"{pfn:x}" for pfn in found.pfns_of(args.number)]
    owner = f"pfn {', '.join(pfns)}" if pfns else f"not {words.whose(found)} memory"
    yield f"mfn {args.number:x}: {owner}"


def _mfn_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    pfns = [words.hexadecimal(pfn) for pfn in found.pfns_of(args.number)]
    return {"mfn": words.hexadecimal(args.number), "pfns": pfns}


PFN = View(
    "pfn",
    "show the p2m's entry for a pseudo-physical frame, by both lists",
    "Plain crash reads by the dump's list; the rebuilt list is what a correct kernel would"
    " have published.",
    _number_argument,
    _pfn_text,
    _pfn_data,
)


MFN = View(
    "mfn",
    "find the pfns that have a machine frame as their memory",
    "Where no pfn has it, the machine frame is not this domain's memory.",
    _number_argument,
    _mfn_text,
    _mfn_data,
)
