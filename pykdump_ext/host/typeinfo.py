# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of the kernel and of its variables, as the dicts that PyKdump's programs take.

drgn has them where it is installed: it is fast, and needs no memory of the dump.  crash's gdb has
them everywhere.  Both give equal dicts.  What is found is kept until ``mod -s`` or ``mod -d``.
"""

from __future__ import annotations

import os
import pickle
import re
from typing import TYPE_CHECKING, Any

from ..errors import P2mError
from ..linux.namelist import Namelist
from ..types.by_gdb import GdbTypes, NoType
from ..types.model import CType, describe
from ..types.places import Memory
from . import lookups
from .guarded import c_name, c_text, error, ffi, lib, succeeded
from .memory import readmem

if TYPE_CHECKING:
    from ..types.by_drgn import DrgnTypes

__all__ = ["SOURCE", "by_drgn", "by_gdb", "gdb_typeinfo", "gdb_whatis"]

SOURCE = "PYKDUMP_EXT_TYPES"
"""A variable of the environment: with ``gdb`` in it types are gdb's, also where drgn is."""
LONGEST, DEEPEST = 1000, 100  # bytes of a name; stars, parentheses and dimensions in it
MOST_KEPT = 5000

_kept: dict[tuple[str, bool], bytes] = {}  # pickled: a program may change its dict
_modules = 0  # the set of modules that these are of, as host_module_set() has it
_gdb: list[GdbTypes] = []  # at most one
_drgn: list[DrgnTypes | None] = []  # at most one; None where drgn has no types of this kernel


def gdb_typeinfo(name: str) -> dict[str, Any]:
    """Return the type that ``name`` stands for, as a dict of PyKdump's.

    :param name: of a type, such as ``struct task_struct``, ``pid_t`` or ``char *[4]``; or what
        :func:`gdb_whatis` takes.
    :raises error: there is no such type.
    """
    return _look_up(name, False)


def gdb_whatis(expr: str) -> dict[str, Any]:
    """Return the type of a variable or of an expression of gdb, as a dict of PyKdump's.

    In it ``fname`` is ``expr``, and a struct that has a tag is not expanded.

    :raises error: there is no such variable.
    """
    return _look_up(expr, True)


def _look_up(text: str, named: bool) -> dict[str, Any]:
    if not isinstance(text, str):
        raise error(f"{text!r}: the name of a type or a variable is a text")
    _note_modules()
    kept = _kept.get((text, named))
    if kept is not None:
        found: dict[str, Any] = pickle.loads(kept)
        return found
    try:
        if text in lookups.absent:
            raise NoType(text)
        found = _shown(_preferred(text), text, named)
    except NoType:
        lookups.absent.add(text)
        raise error(f"{text}: the kernel has no such type or variable") from None
    if len(_kept) >= MOST_KEPT:
        _kept.clear()
    _kept[text, named] = pickle.dumps(found)
    return found


def by_gdb(text: str, named: bool = False) -> dict[str, Any]:
    """Return the dict of a type by gdb.

    :param named: as :func:`gdb_whatis`, not as :func:`gdb_typeinfo`.
    :raises NoType: there is none.
    """
    _note_modules()
    return _shown(_of_gdb(text), text, named)


def by_drgn(text: str, named: bool = False) -> dict[str, Any] | None:
    """Return the dict of a type by drgn, or None for what drgn does not answer.

    :param named: as :func:`gdb_whatis`, not as :func:`gdb_typeinfo`.
    :raises NoType: there is none.
    """
    _note_modules()
    types = _drgns()
    found = types.type(text) if types else None
    return None if found is None else _shown(found, text, named)


def _shown(found: CType, text: str, named: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"fname": text} if named else {}
    describe(found, item)
    return item


def _note_modules() -> None:
    """Forget types if ``mod -s`` or ``mod -d`` was there since the last look-up."""
    global _modules  # noqa: PLW0603
    now = int(lib.host_module_set())
    if now != _modules:
        _modules = now
        _kept.clear()
        _gdb.clear()
        lookups.absent.clear()
        for types in _drgn:
            if types:
                types.use_modules(_module_files())


def _module_files() -> list[str]:
    found: list[str] = []
    while (path := c_text(lib.host_module_file(len(found)))) is not None:
        found.append(path)
    return found


def _preferred(text: str) -> CType:
    if len(c_name(text)) > LONGEST or sum(map(text.count, "*([")) > DEEPEST:
        raise NoType(text)
    types = None if os.environ.get(SOURCE) == "gdb" else _drgns()
    try:
        found = types.type(text) if types else None
    except NoType:
        # gdb knows a variable that no unit defines, such as jiffies, by its declaration
        if not re.fullmatch(r"\w+", text) or not _is_symbol(text):
            raise
        found = None
    return found or _of_gdb(text)


def _drgns() -> DrgnTypes | None:
    if not _drgn:
        try:
            from ..types.by_drgn import DrgnTypes  # noqa: PLC0415

            session = ffi.new("struct host_session *")
            lib.host_get_session(session)
            names = [c_text(session.namelist), c_text(session.namelist_debug)]
            files = Namelist(*(name for name in names if name)).files
            types = DrgnTypes([str(path) for path in files])
            types.use_modules(_module_files())
            _drgn.append(types)
        except (ImportError, P2mError, NoType):
            _drgn.append(None)
    return _drgn[0]


def _of_gdb(text: str) -> CType:
    if not _gdb:
        _gdb.append(GdbTypes(_run_gdb, Memory(_code, readmem)))
    return _gdb[0].type(text)


def _run_gdb(command: str) -> str | None:
    """Run a command of gdb that changes nothing that was looked up; return None where it fails."""
    output, length = ffi.new("char **"), ffi.new("size_t *")
    done = lib.host_ask_gdb(c_name(command), output, length)
    text = None
    if output[0] != ffi.NULL:
        text = bytes(ffi.buffer(output[0], length[0])).decode("utf-8", "replace")
        lib.free(output[0])
    return text or "" if succeeded(done) else None


def _symbol(name: str) -> int | None:
    value = ffi.new("uint64_t *")
    return int(value[0]) if succeeded(lib.host_symbol(c_name(name), value)) else None


def _is_symbol(name: str) -> bool:
    return _symbol(name) is not None


def _code() -> int:
    """Return where the kernel's code is."""
    return _symbol("_stext") or 0
