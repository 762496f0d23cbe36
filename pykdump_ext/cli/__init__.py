# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell commands ``p2mfix`` and ``pykdump-ext``: what each of their files offers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

from ..errors import printable

if TYPE_CHECKING:
    import argparse

    from ..errors import P2mError

__all__ = ["HELP_WIDTH", "Command", "fail"]

HELP_WIDTH = 79  # columns, of what help prints


class Command(Protocol):
    """A command of ``p2mfix``: a module, or an object with the same names.

    ``SUMMARY`` is its line in the list of commands, ``DESCRIPTION`` the text of its own help.
    """

    SUMMARY: str
    DESCRIPTION: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command to its parser."""
        ...

    def run(self, args: argparse.Namespace) -> None:
        """Run the command with parsed arguments.

        :raises P2mError: the command cannot do what was asked.
        """
        ...


def fail(program: str, error: P2mError | OSError) -> NoReturn:
    """Print an error on one line, and end the program with exit status 1."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        text = f"{error.filename or 'standard output'}: {error.strerror}"
    print(f"{program}: {printable(text)}", file=sys.stderr)
    raise SystemExit(1)
