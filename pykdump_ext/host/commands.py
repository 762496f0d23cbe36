# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of crash that are written in Python: their words, and their help."""

from __future__ import annotations

import argparse
import inspect
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

from ..errors import P2mError

__all__ = ["Command", "CommandError"]


class CommandError(P2mError):
    """A command cannot do what was asked; crash shows the text as it shows its own errors."""


@dataclass
class Command:
    """A command of an extension.

    ``function`` gets the namespace that ``parser`` makes, or without a parser the words after
    the command's name.  ``usage`` and ``help`` are for crash's ``help``; ``minimal`` is True
    when the command also works in a minimal session.
    """

    name: str
    function: Callable[[Any], object]
    parser: argparse.ArgumentParser | None
    usage: str
    help: str
    minimal: bool

    def run(self, words: list[str]) -> None:
        """Run the command with the words after its name.

        :raises CommandError: the parser does not accept the words.
        """
        self.function(self._parse(words) if self.parser else words)

    def _parse(self, words: list[str]) -> argparse.Namespace | None:
        assert self.parser is not None
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                return self.parser.parse_args(words)
        except SystemExit as stop:
            if not stop.code:
                raise
        reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise CommandError(f"{reason} (see 'help {self.name}')")

    def help_data(self) -> list[str]:
        """Return the lines of crash's help_data: name, summary, synopsis, then the text."""
        if self.parser:
            usage = self.parser.format_usage().split(maxsplit=2)
            synopsis = " ".join(usage[2].split()) if len(usage) > 2 else ""
            body = self.parser.format_help().partition("\n\n")[2].rstrip().splitlines()
        else:
            synopsis = self.usage
            body = (inspect.getdoc(self.function) or self.help).strip().splitlines()
        first = [text.replace("%", "%%") for text in (self.help, synopsis)]
        return [self.name, *first, *(_verbatim("  " + line if line else "") for line in body)]


def _verbatim(line: str) -> str:
    """Return a line of help escaped for crash, which takes a line with ``%s`` as a format."""
    return line.replace("%", "%%") if "%s" in line else line
