# SPDX-License-Identifier: GPL-3.0-or-later
"""What a view of a p2m is, and where it is shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...p2m.diagnosis import Diagnosis

__all__ = ["JSON_HELP", "WIDEST", "Screen", "View", "no_arguments", "show"]

JSON_HELP = "print JSON, for scripts: addresses and frames as hexadecimal text, counts as numbers"
WIDEST = 120  # columns, of a map on a wide terminal


@dataclass(frozen=True)
class Screen:
    """Where a view is shown: how many columns, in colour or not.

    ``inputs`` are the files that are open: no picture may replace one of them.
    """

    width: int = 80
    colour: bool = False
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
        parser.add_argument("--json", action="store_true", help=JSON_HELP)


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


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: a view of the whole p2m needs no arguments."""
