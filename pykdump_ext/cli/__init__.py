"""The commands of the shell: ``p2mfix`` and ``pykdump-ext``."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn, Protocol

from ..errors import P2mError

__all__ = ["Command", "fail"]


class Command(Protocol):
    """A command of ``p2mfix``: a module, or an object with the same names.

    ``SUMMARY`` is a line for the list of commands, ``DESCRIPTION`` what its help says.
    """

    SUMMARY: str
    DESCRIPTION: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Give the command's parser its arguments."""
        ...

    def run(self, args: argparse.Namespace) -> None:
        """Run the command.

        :raises P2mError: it cannot do what was asked.
        """
        ...


def fail(program: str, error: P2mError | OSError) -> NoReturn:
    """End a command with its error on one line and exit status 1."""
    print(f"{program}: {error}", file=sys.stderr)
    raise SystemExit(1)
