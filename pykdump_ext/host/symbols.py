# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbols of the kernel and its modules: from names to addresses, and back."""

from __future__ import annotations

from typing import Any

from . import lookups
from .guarded import c_name, c_text, check, ffi, lib, succeeded
from .integers import ALL_BITS

__all__ = ["addr2mod", "addr2sym", "sym2addr", "sym2alladdr", "symbol_exists"]


def _symbol(name: str) -> int | None:
    try:
        return lookups.symbols[name]
    except KeyError:
        value = ffi.new("uint64_t *")
        found = succeeded(lib.host_symbol(c_name(name), value))
        return lookups.keep_symbol(name, int(value[0]) if found else None)


def sym2addr(name: str) -> int:
    """Return the address of the symbol ``name``, or 0 where there is no such symbol.

    The address of a symbol may be 0, too, as that of the first per-cpu variable was until Linux
    6.15: :func:`symbol_exists` tells the two apart.
    """
    return _symbol(name) or 0


def symbol_exists(name: str) -> bool:
    """Return True when the kernel or a module has the symbol ``name``, whatever its address."""
    return _symbol(name) is not None


def sym2alladdr(name: str) -> list[int]:
    """Return the addresses of all symbols ``name``: several files may have a static one."""
    text, count, room = c_name(name), ffi.new("long *"), 16
    while True:
        values = ffi.new("uint64_t[]", room)
        check(lib.host_symbols(text, values, room, count), f"no symbol {name}")
        if count[0] <= room:
            return list(values[0 : count[0]])
        room = count[0]


def addr2sym(addr: int, loose: bool = False) -> Any:
    """Return the name of the symbol whose address is ``addr``, or None.

    :param loose: return (name, offset) of the nearest symbol at or below ``addr``, or
        (None, None).
    """
    name, offset = ffi.new("char **"), ffi.new("uint64_t *")
    there = succeeded(lib.host_symbol_near(addr & ALL_BITS, name, offset))
    found = c_text(name[0]) if there else None
    if loose:
        return (found, int(offset[0])) if found else (None, None)
    return found if found and not offset[0] else None


def addr2mod(addr: int) -> str | None:
    """Return the name of the kernel module that ``addr`` is in, or None."""
    name = ffi.new("char **")
    return c_text(name[0]) if succeeded(lib.host_module_of(addr & ALL_BITS, name)) else None
