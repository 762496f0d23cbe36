# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs of PyKdump ask of ``epython``: to register, list and run programs.

The module crash has these functions from the start; the extension epython.py answers them while
it is loaded.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import P2mError
from .guarded import error

__all__ = [
    "Epython",
    "answer_by",
    "exec_epython_command",
    "get_epython_cmds",
    "register_epython_prog",
]


class Epython(Protocol):
    """The answers of epython.py."""

    def register(self, name: str, short: str, synopsis: str, text: str) -> bool:
        """Make a program a command of crash; return False where the name is taken."""

    def commands(self) -> list[str]:
        """Return the names of all commands of epython."""

    def run(self, words: list[str]) -> None:
        """Run a program with its arguments."""


_epython: Epython | None = None


def answer_by(epython: Epython | None) -> None:
    """Have the functions below answered by ``epython``, or by nobody."""
    global _epython  # noqa: PLW0603
    _epython = epython


def _loaded() -> Epython:
    if _epython is None:
        raise error("programs of PyKdump need the command epython: extend epython.py")
    return _epython


def register_epython_prog(name: str, short: str, synopsis: str, help: str) -> bool:
    """Make the program ``name`` a command of crash, with the texts of its help.

    Return False where crash has such a command already; crash's own message is printed then.

    :param short: one line that says what the program does.
    :param synopsis: the words that it takes.
    :raises error: epython.py is not loaded, an argument is not a string, or the name is not one
        word.
    """
    if not all(isinstance(text, str) for text in (name, short, synopsis, help)):
        raise error("invalid parameter(s) type")
    try:
        return _loaded().register(name, short, synopsis, help)
    except P2mError as problem:
        raise error(str(problem)) from None


def get_epython_cmds() -> list[str]:
    """Return the names of the commands that are programs, and of ``epython`` itself."""
    return _epython.commands() if _epython else []


def exec_epython_command(*words: str) -> None:
    """Run a program: its name and its arguments, as they would follow ``epython``.

    Where there is no such program, that is printed.

    :raises error: epython.py is not loaded, or an argument is not a string.
    """
    if not all(isinstance(word, str) for word in words):
        raise error("invalid parameter(s) type")
    try:
        _loaded().run(list(words))
    except P2mError as problem:
        print(f"epython: {problem}")
