# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of the kernel, looked up by crash: their sizes, their members, their enumerators.

``struct_size()``, ``union_size()``, ``member_offset()`` and ``member_size()`` return -1 where there
is no such type or member, as PyKdump's do; ``sizeof()`` and ``offsetof()`` raise an exception.
"""

from __future__ import annotations

from . import lookups
from .guarded import c_name, check, error, ffi, lib, succeeded

__all__ = [
    "enumerator_value", "member_offset", "member_size", "offsetof", "sizeof", "struct_size",
    "union_size",
]  # fmt: skip

NOWHERE = (-1, -1)
LONGEST_NAME = 1024  # bytes; datatype_info() of crash's symbols.c copies it into BUFSIZE, 1500


def _look_up(name: str, member: str | None) -> tuple[int, int]:
    """Return size and offset: of a type, or of its member; -1 for what is not there.

    :raises error: crash cannot look it up.
    """
    found = lookups.types.get((name, member))
    if found is None:
        absent = lookups.types.get((name, None)) == NOWHERE
        found = NOWHERE if absent else _ask(name, member)
        lookups.types[name, member] = found
    return found


def _ask(name: str, member: str | None) -> tuple[int, int]:
    texts = [None if text is None else c_name(text) for text in (name, member)]
    if any(len(text) > LONGEST_NAME for text in texts if text is not None):
        return NOWHERE
    of = ffi.NULL if texts[1] is None else ffi.new("char[]", texts[1])
    size, offset, member_size = (ffi.new("long *") for _ in range(3))
    result = lib.host_datatype(texts[0], of, size, offset, member_size)
    check(result, f"no data type {name}")
    return int((size if member is None else member_size)[0]), int(offset[0])


def struct_size(name: str) -> int:
    """Return the size of ``struct name`` in bytes, or -1 where there is no such struct."""
    return _look_up(name, None)[0]


union_size = struct_size


def member_offset(name: str, member: str) -> int:
    """Return the offset of a member of ``struct name`` in bytes, or -1 where there is none."""
    return _look_up(name, member)[1]


def member_size(name: str, member: str) -> int:
    """Return the size of a member of ``struct name`` in bytes, or -1 where there is none."""
    return _look_up(name, member)[0]


def sizeof(name: str) -> int:
    """Return the size of ``struct name`` or ``union name`` in bytes.

    :raises error: the kernel has no such type, or crash cannot look it up.
    """
    size = struct_size(name)
    if size < 0:
        raise error(f"the kernel has no struct or union {name}")
    return size


def offsetof(name: str, member: str) -> int:
    """Return the offset of a member of ``struct name`` or ``union name`` in bytes.

    :raises error: the kernel has no such type, or the type has no such member, or crash cannot
        look it up.
    """
    offset = member_offset(name, member)
    if offset < 0:
        sizeof(name)
        raise error(f"struct {name} has no member {member}")
    return offset


def enumerator_value(name: str) -> int | None:
    """Return the value of an enumerator, or None where there is none.

    :raises error: crash cannot look it up.
    """
    try:
        return lookups.enumerators[name]
    except KeyError:
        value = ffi.new("long *")
        text = c_name(name)
        asked = name.isidentifier() and len(text) <= LONGEST_NAME
        found = asked and succeeded(lib.host_enumerator(text, value))
        lookups.enumerators[name] = int(value[0]) if found else None
        return lookups.enumerators[name]
