# SPDX-License-Identifier: GPL-3.0-or-later
"""What crash has looked up, kept while one command runs and its modules stay as they are.

gdb takes long for a type, and longest for one that is not there.  Symbols and types change with
the modules and with what gdb reads, and these only by a command.
"""

from __future__ import annotations

from .guarded import check, ffi, lib

__all__ = ["command_ran", "forget", "keep_symbol", "symbols", "types", "up_to_date"]

MOST_SYMBOLS = 10_000

symbols: dict[str, int | None] = {}
"""The address of each symbol, or None where there is none."""
types: dict[tuple[str, str | None], tuple[int, int]] = {}
"""The size and the offset of each member, or of a type without one; -1 for what is not there."""

_modules = 0  # the sum of host_modules() when they were looked up
_sure = False  # no command has run since then


def command_ran() -> None:
    """Ask crash again, because a command may have changed anything."""
    global _sure  # noqa: PLW0603
    _sure = False
    forget()


def forget() -> None:
    """Ask crash again for everything."""
    symbols.clear()
    types.clear()


def up_to_date() -> None:
    """Forget everything if modules, or their symbols, have changed; called before a look-up.

    :raises error: the calling thread is not crash's own.
    """
    global _modules, _sure  # noqa: PLW0603
    if _sure:
        return
    now = ffi.new("uint64_t *")
    check(lib.host_modules(now), "cannot tell which modules there are")
    if now[0] != _modules:
        forget()
        _modules = now[0]
    _sure = True


def keep_symbol(name: str, address: int | None) -> int | None:
    """Keep the address of a symbol, and return it."""
    if len(symbols) >= MOST_SYMBOLS:
        symbols.clear()
    symbols[name] = address
    return address
