# SPDX-License-Identifier: GPL-3.0-or-later
"""Python's module ``readline`` inside crash: it keeps the prompt's completer, and does nothing.

crash has a readline of its own, whose functions have the names of the library's.  Python's module
would take them for the library's, and then Tab at crash's prompt would complete Python's names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["WORD_BREAKS", "complete", "completing", "take_over_readline"]

Completer = Callable[[str, int], "str | None"]

WORD_BREAKS = " \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?"
"""What separates the words that a completer gets; run.c has the same."""


class _Readline(ModuleType):
    """The module: a function of it that is not below does nothing, and returns None."""

    completer: Completer | None = None

    def get_completer(self) -> Completer | None:
        return self.completer

    def set_completer(self, function: Completer | None = None) -> None:
        self.completer = function

    def get_completer_delims(self) -> str:
        return WORD_BREAKS

    def get_history_length(self) -> int:
        return -1  # no limit

    def get_current_history_length(self) -> int:
        return 0

    def get_line_buffer(self) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*words: object) -> None:
    """Do nothing."""


_module = _Readline("readline", __doc__)


def take_over_readline() -> None:
    """Have ``import readline`` give the module above, unless Python has imported its own.

    drgn's prompt then does without that of Python 3.13, which reads the terminal by itself.
    """
    sys.modules.setdefault("readline", _module)
    modules: dict[str, Any] = sys.modules
    modules["_pyrepl.simple_interact"] = None


@contextmanager
def completing(completer: Completer) -> Iterator[None]:
    """Complete names by ``completer`` until the block ends."""
    before = _module.completer
    _module.completer = completer
    try:
        yield
    finally:
        _module.completer = before


def complete(text: str, state: int) -> str | None:
    """Return the completion number ``state`` of ``text``, or None; raise what names do.

    A name that is not complete yet may be an attribute, as in ``crash.sym``.
    """
    return None if _module.completer is None else _module.completer(text, state)
