# SPDX-License-Identifier: GPL-3.0-or-later
"""What crash has looked up, kept while one command runs.

gdb takes long for a type, and longest for one that is not there.  Symbols and types change with
the modules and with what gdb reads, and these only by a command.
"""

from __future__ import annotations

__all__ = ["absent", "enumerators", "forget", "keep_symbol", "symbols", "types"]

MOST_SYMBOLS = 10_000

symbols: dict[str, int | None] = {}
"""The address of each symbol, or None where there is none."""
types: dict[tuple[str, str | None], tuple[int, int]] = {}
"""The size and the offset of each member, or of a type without one; -1 for what is not there."""
absent: set[str] = set()
"""What neither a type nor a variable has for its name."""

enumerators: dict[str, int | None] = {}
"""The value of each enumerator, or None where there is none."""


def forget() -> None:
    """Ask crash again for everything, because a command may have changed anything."""
    symbols.clear()
    types.clear()
    enumerators.clear()
    absent.clear()


def keep_symbol(name: str, address: int | None) -> int | None:
    """Keep the address of a symbol, and return it."""
    if len(symbols) >= MOST_SYMBOLS:
        symbols.clear()
    symbols[name] = address
    return address
