# SPDX-License-Identifier: GPL-3.0-or-later
"""Types from gdb's words, which needs nothing that crash does not have.

``ptype/o`` of gdb 8.1 and newer (crash 8.0.0) has the place of each member.  For an older gdb
:mod:`~pykdump_ext.types.places` asks for them.  ``/r`` makes gdb print names as they are in the
debug information.

gdb takes long for each name, and longest for one that is not there, so what is found is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

from .codes import TYPE_CODE_ENUM, TYPE_CODE_STRUCT, TYPE_CODE_UNION
from .model import CType, Member, array_of, base_type, function_of, pointer_to, typedef_of
from .places import Memory, Places, without_size
from .text import Array, Function, Pointer, Spec, Written, leaf, parse, parse_name

__all__ = ["GdbTypes", "NoType"]

CODES = {"struct": TYPE_CODE_STRUCT, "union": TYPE_CODE_UNION, "enum": TYPE_CODE_ENUM}


class NoType(LookupError):
    """The debug information has no such type or variable."""


class GdbTypes:
    """The types that a gdb knows.

    :param run: runs a command of gdb, and returns what it prints, or None where it fails.
    :param memory: what gdb reads, for one without ``ptype/o``.
    """

    def __init__(self, run: Callable[[str], str | None], memory: Memory) -> None:
        self._run = run
        self._places = Places(run, lambda member: self._ctype(member.type), memory)
        self._typedefs: dict[str, CType | None] = {}
        self._tagged: dict[str, Spec] = {}
        self._sizes: dict[str, int] = {}

    def type(self, text: str) -> CType:
        """Return the type of a name such as ``struct page *``, or of an expression.

        :raises NoType: gdb does not know it.
        """
        try:
            written = parse_name(text)
        except ValueError:
            return self._of_expression(text)
        spec = leaf(written)
        if spec.word:
            self._tag(spec)
        elif not spec.basic and self._typedef(spec.name or "") is None:
            return self._of_expression(text)
        return self._ctype(written, typed=True)

    # What gdb is asked

    def _ask(self, command: str, about: str) -> Written:
        """Return the type that a command of gdb prints about a name or an expression.

        :raises NoType: gdb prints none.
        """
        printed = self._run(f"{command} {about}")
        try:
            if printed is None:
                raise NoType(about)
            return parse(printed[max(printed.find("type = "), 0) :])  # behind a warning
        except ValueError:
            raise NoType(about) from None

    @cached_property
    def _has_places(self) -> bool:
        """Has this gdb ``ptype/o``?"""
        return self._run("ptype/o int") is not None

    def _expanded(self, about: str) -> Spec:
        """Return the struct, union or enum that an expression or a type is made of, with places."""
        spec = leaf(self._ask("ptype/or" if self._has_places else "ptype/r", about))
        if spec.members and not self._has_places:
            try:
                self._places.add(about, spec)
            except (LookupError, ValueError):
                raise NoType(about) from None
        elif spec.members and all(member.size is None for member in spec.members):
            # gdb 16 prints no places of a type with an array without a size, nor of a pointer to
            # it, but of a pointer to that pointer
            try:
                spec = leaf(self._ask("ptype/or", f"{about} **"))
            except NoType:
                spec = leaf(self._ask("ptype/or", f"(&({about}))@1"))
        for path, inner in without_size(spec):
            inner.size = self._size(f"(({about} *)0)->{path}") or self._size(f"({about}).{path}")
        spec.start = 0
        return spec

    def _size(self, about: str) -> int:
        """Return the size of an expression or a type in bytes, 0 where gdb does not know it."""
        if about not in self._sizes:
            printed = self._run(f'printf "%lu", sizeof({about})')
            self._sizes[about] = int(printed or 0)
        return self._sizes[about]

    def _of_expression(self, text: str) -> CType:
        written = self._ask("whatis/r", text)
        if isinstance(written, Array) and not written.count:
            written = self._with_size(text, written)
        spec = leaf(written)
        if spec.word:
            whole = self._size(text)
            if spec.name is None:
                self._fill(spec, text)
            of = written
            while isinstance(of, Array):
                whole, of = whole // of.count if of.count else 0, of.target
            if whole and isinstance(of, Spec):
                spec.size = whole
        return self._ctype(written, about=text)

    def _with_size(self, name: str, otherwise: Written) -> Written:
        """Return the type of an array by the declaration that has its size, if there is one.

        gdb shows a variable that is declared twice by the one or the other declaration.
        """
        if re.fullmatch(r"\w+", name):
            for line in (self._run(f"info variables ^{name}$") or "").splitlines():
                with suppress(ValueError):
                    written = parse(re.sub(r"^\d+:", "", line).rstrip("; "), name)
                    if isinstance(written, Array) and written.count:
                        return written
        return otherwise

    def _fill(self, spec: Spec, about: str) -> None:
        found = self._expanded(about)
        spec.members, spec.values = found.members, found.values
        spec.start = found.start
        spec.size = self._size(about) if found.size is None else found.size

    def _tag(self, spec: Spec) -> Spec:
        """Return the struct, union or enum with a tag.

        :raises NoType: gdb does not know it.
        """
        name = f"{spec.word} {spec.name}"
        if name not in self._tagged:
            self._tagged[name] = self._expanded(name)
        return self._tagged[name]

    def _typedef(self, name: str) -> CType | None:
        """Return a typedef, or None where gdb has none of this name."""
        if name not in self._typedefs:
            found = None
            if self._run(f"whatis/r ({name} *)0") is not None:
                written = self._ask("whatis/r", name)
                spec = leaf(written)
                if spec.word and spec.name is None:
                    self._fill(spec, name)
                if spec.word or spec.basic or spec.name != name:  # or a type like _Complex
                    found = typedef_of(name, self._ctype(written))
            self._typedefs[name] = found
        return self._typedefs[name]

    # What is made of it

    def _ctype(
        self, written: Written, size: int | None = None, typed: bool = False, about: str = ""
    ) -> CType:
        """Return a type as the model has it.

        :param size: of all of it, in bytes, where that is known.
        :param typed: the words are a user's.
        """
        if isinstance(written, Pointer):
            return pointer_to(self._ctype(written.target, None, typed))
        if isinstance(written, Array):
            each = size // written.count if size and written.count else None
            return array_of(written.count, self._ctype(written.target, each, typed))
        if isinstance(written, Function):
            parameters = [self._ctype(parameter) for parameter in written.parameters]
            return function_of(self._ctype(written.result), parameters)
        if written.basic:
            basic = base_type((written.name or "").split(), typed)
            assert basic is not None
            return basic
        if not written.word:
            found = self._typedef(written.name or "")
            if found is None:
                raise NoType(written.name)
            return found
        return self._of_tag(written, size)

    def _of_tag(self, spec: Spec, size: int | None) -> CType:
        name = f"{spec.word} {spec.name}"
        known = spec.size if spec.size is not None else size
        values: Sequence[tuple[str, int]] = ()
        if spec.word == "enum":
            found = spec if spec.values is not None or not spec.name else self._tag(spec)
            values = found.values or ()

        def measured() -> int:
            if known is not None:
                return known
            return self._size(name) if spec.name else 0

        def members() -> list[Member]:
            return self._members(self._tag(spec) if spec.members is None and spec.name else spec)

        code = CODES[spec.word]
        return CType(code, spec.name, measured, members=members, values=values)

    def _members(self, spec: Spec) -> list[Member]:
        """Return the members of a struct, with offsets from its start."""
        written, found = spec.members or [], []
        start = spec.start
        if start is None:  # behind a pointer, or an array: gdb counts anew there
            start = min(
                (member.offset for member in written if member.offset is not None), default=0
            )
        for member in written:
            offset = start if member.offset is None else member.offset
            if isinstance(member.type, Spec):
                member.type.start = offset
            of = self._ctype(member.type, member.size)
            found.append(Member(member.name, of, offset - start, member.bits))
        return found
