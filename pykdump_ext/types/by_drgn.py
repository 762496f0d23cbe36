# SPDX-License-Identifier: GPL-3.0-or-later
"""Types by drgn, from the debug information of the kernel and of its modules.

Each file has a program of its own, without a dump: so the types do not depend on what can be read
from the dump, nor on what a user does with a program, and those of a module go with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import drgn

from .by_gdb import NoType
from .codes import (
    TYPE_CODE_BOOL,
    TYPE_CODE_ENUM,
    TYPE_CODE_FLT,
    TYPE_CODE_INT,
    TYPE_CODE_STRUCT,
    TYPE_CODE_UNION,
    TYPE_CODE_VOID,
)
from .model import CType, Member, array_of, base_type, function_of, pointer_to, typedef_of
from .text import Array, Function, Pointer, Written, leaf, parse_name

__all__ = ["DrgnTypes"]

TAGGED = {
    drgn.TypeKind.STRUCT: ("struct", TYPE_CODE_STRUCT),
    drgn.TypeKind.UNION: ("union", TYPE_CODE_UNION),
    drgn.TypeKind.ENUM: ("enum", TYPE_CODE_ENUM),
}
BASIC = {
    drgn.TypeKind.INT: TYPE_CODE_INT,
    drgn.TypeKind.BOOL: TYPE_CODE_BOOL,
    drgn.TypeKind.FLOAT: TYPE_CODE_FLT,
    drgn.TypeKind.VOID: TYPE_CODE_VOID,
}
LARGEST = 1 << 63  # gdb has the values of an enum as signed numbers of 64 bits


class DrgnTypes:
    """The types that some files have.

    :param files: of the kernel, in ELF.
    :raises NoType: a file has no debug information, or cannot be read.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._kernel = _program(files)
        self._modules: dict[str, drgn.Program] = {}
        self._lacks_modules = False

    def use_modules(self, files: Sequence[str]) -> None:
        """Have the types of these modules, and of no others; leave out what cannot be read.

        crash has the path of a module as the user typed it, from the folder that was current then.
        """
        self._lacks_modules = False
        for gone in self._modules.keys() - {*files}:
            del self._modules[gone]
        for path in files:
            if path not in self._modules:
                try:
                    self._modules[path] = _program([path])
                except NoType:
                    self._lacks_modules = True

    def type(self, text: str) -> CType | None:
        """Return the type of a name such as ``struct page *``, or of a variable.

        None stands for what drgn does not answer, or not each time: for an expression, for an
        array that is declared twice, with its size and without, and for what a module may have
        whose file cannot be read.

        :raises NoType: there is no such type or variable.
        """
        try:
            return self._type(text)
        except NoType:
            if self._lacks_modules:
                return None
            raise

    def _type(self, text: str) -> CType | None:
        try:
            written = parse_name(text)
        except ValueError:
            return None
        spec = leaf(written)
        if spec.basic:
            return self._written(written, None)
        found = self._find(f"{spec.word} {spec.name}".strip())
        if found is not None:
            return self._written(written, found)
        if spec.word or isinstance(written, Pointer):
            raise NoType(text)
        return self._variable(spec.name or "") if spec is written else None

    @property
    def _programs(self) -> list[drgn.Program]:
        return [self._kernel, *self._modules.values()]

    def _find(self, name: str) -> drgn.Type | None:
        for prog in self._programs:
            try:
                return prog.type(name)
            except LookupError:
                continue
            except SyntaxError:
                break
        return None

    def _variable(self, name: str) -> CType | None:
        """Return the type of a variable, a function or an enumerator.

        :raises NoType: there is none of this name.
        """
        for prog in self._programs:
            try:
                found = prog.object(name).type_
            except LookupError:
                continue
            # A function in assembler has no type that drgn knows (DW_TAG_unspecified_type).  The
            # exception is of no other class before drgn has BadDataError, as in 0.1.0.
            except Exception:
                return None
            without_size = found.kind == drgn.TypeKind.ARRAY and found.length is None
            return None if without_size else _ctype(self, found)
        raise NoType(name)

    def complete(self, of: drgn.Type) -> drgn.Type:
        """Return a struct, union or enum with its members, if any file has them."""
        if of.is_complete() or of.tag is None:
            return of
        return self._find(f"{TAGGED[of.kind][0]} {of.tag}") or of

    def _written(self, written: Written, found: drgn.Type | None) -> CType:
        """Return a type that a user typed.

        :param found: what it is made of; None if that is a basic type.
        """
        if isinstance(written, Pointer):
            return pointer_to(self._written(written.target, found))
        if isinstance(written, Array):
            return array_of(written.count, self._written(written.target, found))
        if isinstance(written, Function):
            parameters = [self._parameter(each) for each in written.parameters]
            return function_of(self._written(written.result, found), parameters)
        if found is not None:
            return _ctype(self, found)
        basic = base_type((written.name or "").split(), typed=True)
        assert basic is not None
        return basic

    def _parameter(self, written: Written) -> CType:
        spec = leaf(written)
        return self._written(
            written, None if spec.basic else self._find(f"{spec.word} {spec.name}".strip())
        )


def _program(files: Iterable[str]) -> drgn.Program:
    """Return a program with the debug information of some files, and without a dump.

    :raises NoType: there is none in them.
    """
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for path in files:
        module = prog.extra_module(str(path), create=True)
        try:
            module.try_file(path, force=True)
        except (OSError, ValueError) as problem:
            raise NoType(f"{path}: {problem}") from None
        if module.debug_file_status == drgn.ModuleFileStatus.HAVE:
            return prog
    raise NoType("no debug information")


def _ctype(types: DrgnTypes, of: drgn.Type) -> CType:
    """Return a type as the model has it."""
    kind = of.kind
    if kind == drgn.TypeKind.POINTER:
        return pointer_to(_ctype(types, of.type))
    if kind == drgn.TypeKind.ARRAY:
        return array_of(of.length or 0, _ctype(types, of.type))
    if kind == drgn.TypeKind.FUNCTION:
        parameters = [_ctype(types, parameter.type) for parameter in of.parameters]
        return function_of(_ctype(types, of.type), parameters)
    if kind == drgn.TypeKind.TYPEDEF:
        return typedef_of(of.name, _ctype(types, of.type))
    if kind in BASIC:
        name = "void" if kind == drgn.TypeKind.VOID else of.name
        basic = base_type(name.split())
        unsigned = kind == drgn.TypeKind.INT and not of.is_signed
        return basic or CType(BASIC[kind], name, lambda: int(of.size), unsigned)
    of = types.complete(of)
    values: list[tuple[str, int]] = []
    if kind == drgn.TypeKind.ENUM:
        values = [(each.name, _signed(each.value)) for each in of.enumerators or ()]

    def members() -> list[Member]:
        return [
            Member(
                each.name or "", _ctype(types, each.type), each.bit_offset, each.bit_field_size or 0
            )
            for each in of.members or ()
        ]

    def size() -> int:
        return int(drgn.sizeof(of)) if of.is_complete() else 0

    return CType(TAGGED[kind][1], of.tag, size, members=members, values=values)


def _signed(value: int) -> int:
    return value - 2 * LARGEST if value >= LARGEST else value
