# SPDX-License-Identifier: GPL-3.0-or-later
"""A C type, whichever source it is from, and the dict that PyKdump's programs take for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .codes import (
    TYPE_CODE_ARRAY,
    TYPE_CODE_BOOL,
    TYPE_CODE_ENUM,
    TYPE_CODE_FLT,
    TYPE_CODE_FUNC,
    TYPE_CODE_INT,
    TYPE_CODE_PTR,
    TYPE_CODE_STRUCT,
    TYPE_CODE_UNION,
    TYPE_CODE_VOID,
)

__all__ = [
    "POINTER_SIZE",
    "TYPEDEF",
    "CType",
    "Member",
    "array_of",
    "base_type",
    "describe",
    "function_of",
    "pointer_to",
    "typedef_of",
]

TYPEDEF = -1  # the kind of a typedef, which no dict shows
POINTER_SIZE = 8  # bytes
FUNCTION_SIZE = 1  # bytes, as gdb has it, and as gcc has it for sizeof
WORDS = {TYPE_CODE_STRUCT: "struct", TYPE_CODE_UNION: "union", TYPE_CODE_ENUM: "enum"}


@dataclass
class Member:
    """A member of a struct or union.

    ``offset`` is in bits from the start of that struct; ``bits`` is 0 where it is no bit-field.
    """

    name: str
    type: CType
    offset: int
    bits: int = 0


def _none() -> list[Member]:
    return []


@dataclass
class CType:
    """A type: its kind, and what a type of this kind has.

    ``name`` is a tag, a typedef's name or a basic type's, or None.  What takes a look-up is a
    function, which runs only if a dict has to show it: the ``size`` in bytes, and the ``members``.
    """

    code: int
    name: str | None
    size: Callable[[], int]
    unsigned: bool = False
    target: CType | None = None  # of a pointer, array or typedef; what a function returns
    count: int = 0  # of an array, 0 where it is not known
    members: Callable[[], Sequence[Member]] = _none
    values: Sequence[tuple[str, int]] = ()  # of an enum
    parameters: Sequence[CType] = field(default_factory=tuple)


def pointer_to(target: CType) -> CType:
    """Return the type of a pointer."""
    return CType(TYPE_CODE_PTR, None, lambda: POINTER_SIZE, target=target)


def array_of(count: int, target: CType) -> CType:
    """Return the type of an array."""
    return CType(TYPE_CODE_ARRAY, None, lambda: count * target.size(), target=target, count=count)


def function_of(result: CType, parameters: Sequence[CType]) -> CType:
    """Return the type of a function."""
    return CType(
        TYPE_CODE_FUNC, None, lambda: FUNCTION_SIZE, target=result, parameters=parameters
    )  # fmt: skip


def typedef_of(name: str, target: CType) -> CType:
    """Return a typedef."""
    return CType(TYPEDEF, name, target.size, target=target)


_INTEGERS = {"char": 1, "short": 2, "int": 4, "long": 8, "long long": 8, "__int128": 16}  # bytes
_OTHERS = {
    "void": (TYPE_CODE_VOID, 1),  # bytes, as gdb has it
    "_Bool": (TYPE_CODE_BOOL, 1),
    "float": (TYPE_CODE_FLT, 4),
    "double": (TYPE_CODE_FLT, 8),
    "long double": (TYPE_CODE_FLT, 16),
}


def base_type(words: Sequence[str], typed: bool = False) -> CType | None:
    """Return the basic type that some words of C name, or None.

    :param typed: the words are a user's.  gdb shows ``unsigned long`` for those, whatever their
        order, and for the kernel's own ``long unsigned int``, as gcc spells it.  (gdb 16 shows the
        short form for both, and is not followed.)
    """
    name = " ".join(words)
    if name in _OTHERS:
        code, other = _OTHERS[name]
        return CType(code, name, lambda: other)
    signs = [word for word in words if word in ("signed", "unsigned")]
    kinds = [word for word in words if word not in ("signed", "unsigned")]
    if "int" in kinds and len(kinds) > 1:
        kinds.remove("int")
    kind = " ".join(kinds) or ("int" if signs else "")
    if kind not in _INTEGERS or len(signs) > 1:
        return None
    size, unsigned = _INTEGERS[kind], signs == ["unsigned"]
    if kind == "char":
        shown = " ".join([*signs, kind])
    elif typed or kind == "int":
        shown = f"unsigned {kind}" if unsigned else kind
    elif kind == "__int128":
        shown = f"{kind} unsigned" if unsigned else kind
    else:
        shown = f"{kind} unsigned int" if unsigned else f"{kind} int"
    return CType(TYPE_CODE_INT, shown, lambda: size, unsigned=unsigned)


# --------------------------------------------------------------------------
# The dict


def describe(of: CType, item: dict[str, Any]) -> None:
    """Write a type into a dict, as PyKdump's programs take it.

    The keys and their meaning are PyKdump's, also where they are odd: an array's ``typelength`` is
    that of an element, and of an array of arrays behind a typedef only the first dimensions show.

    :param item: with ``fname`` in it, the type is that of a variable or member of this name: a
        struct that has a tag is not expanded then.
    """
    code, size = of.code, of.size
    if code in (TYPE_CODE_STRUCT, TYPE_CODE_UNION):
        if of.name is None or ("fname" not in item and "stars" not in item):
            item["body"] = [_member(member) for member in of.members()]
        item["basetype"] = _tagged(of)
    elif code == TYPE_CODE_ENUM:
        item["edef"] = [[name, value] for name, value in of.values]
        item["basetype"] = _tagged(of)
    elif code == TYPE_CODE_PTR:
        stars, target = 0, of
        while target.code == TYPE_CODE_PTR:
            stars, target = stars + 1, _target(target)
        target = _resolved(target, item)
        item["stars"] = stars
        item["ptrbasetype"] = target.code
        describe(target, item)
    elif code == TYPE_CODE_FUNC:
        item["basetype"] = "(func)"
        named = [("returntype", _target(of))]
        named += [(f"arg{number}", type_) for number, type_ in enumerate(of.parameters)]
        item["prototype"] = [_named(name, type_) for name, type_ in named]
    elif code == TYPEDEF:
        target = _resolved(of, item)
        describe(target, item)
        code, size = target.code, target.size
    elif code == TYPE_CODE_ARRAY:
        dims, target = [], of
        while target.code == TYPE_CODE_ARRAY:
            dims.append(target.count)
            target = _target(target)
        target = _resolved(target, item)
        describe(target, item)
        item["dims"] = dims
        code, size = target.code, target.size
    else:
        if code == TYPE_CODE_INT:
            item["uint"] = int(of.unsigned)
        item["basetype"] = of.name
    item["codetype"] = code
    item["typelength"] = size()


def _target(of: CType) -> CType:
    assert of.target is not None
    return of.target


def _resolved(of: CType, item: dict[str, Any]) -> CType:
    """Return what is behind a typedef, and write its name into the dict."""
    if of.code == TYPEDEF:
        item["typedef"] = of.name
    while of.code == TYPEDEF:
        of = _target(of)
    return of


def _tagged(of: CType) -> str:
    word = WORDS[of.code]
    return word if of.name is None else f"{word} {of.name}"


def _named(name: str, of: CType) -> dict[str, Any]:
    item: dict[str, Any] = {"fname": name}
    describe(of, item)
    return item


def _member(member: Member) -> dict[str, Any]:
    item: dict[str, Any] = {"fname": member.name, "bitoffset": member.offset}
    if member.bits:
        item["bitsize"] = member.bits
    describe(member.type, item)
    return item
