# SPDX-License-Identifier: GPL-3.0-or-later
"""C types as text: what gdb's ``whatis`` and ``ptype`` print, and what a user types.

``ptype/o`` (gdb 8.1 and newer) also prints where each member is, in comments::

    /* offset    |  size */  type = struct page {
    /*    0      |     8 */    unsigned long flags;
    /*    8      |    40 */    union {
    /*                16 */        struct {
    /*   40: 3   |     4 */            unsigned int frozen : 1;

The first number is the offset in bytes from the outermost struct, and for a bit-field a bit behind
it; members of a union have only the second number, their size.  A struct ends with its size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Union

from .model import base_type

__all__ = [
    "Array", "Function", "Pointer", "Spec", "Written", "WrittenMember", "leaf", "parse",
    "parse_name",
]  # fmt: skip

TOKEN = re.compile(r"/\*(.*?)\*/|(<[^>]*>|\.\.\.|-?\d+|\w+|[^\s\w])", re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w*")
PLACE = re.compile(r"\s*(\d+)(?:\s*:\s*(\d+))?\s*\|\s*(\d+)\s*")
SIZE = re.compile(r"\s*(\d+)\s*")
TOTAL = re.compile(r"\s*total size \(bytes\):\s*(\d+)\s*")
NO_NAME = re.compile(r"[^\w\s*()\[\],.]|\b(?:static|register)\b")
TAGS = ("struct", "union", "enum")
QUALIFIERS = {"const", "volatile", "restrict", "__restrict", "_Atomic", "register", "static"}
BASIC = {
    "void", "_Bool", "float", "double", "char", "short", "int", "long", "__int128", "signed",
    "unsigned",
}  # fmt: skip


@dataclass
class Spec:
    """A type without its stars, dimensions and parameters.

    ``word`` is ``struct``, ``union`` or ``enum``; it is nothing for the name of a basic type or a
    typedef.  ``members`` or ``values`` are None where the text has none: of a struct that is not
    expanded, or that is incomplete.
    """

    word: str
    name: str | None
    basic: bool = False
    members: list[WrittenMember] | None = None
    values: list[tuple[str, int]] | None = None
    size: int | None = None  # bytes
    start: int | None = None  # bits from the outermost struct, where that is known


@dataclass
class Pointer:
    """A pointer."""

    target: Written


@dataclass
class Array:
    """An array; ``count`` is 0 where the text has none."""

    count: int
    target: Written


@dataclass
class Function:
    """A function."""

    result: Written
    parameters: list[Written] = field(default_factory=list)


Written = Union[Spec, Pointer, Array, Function]


@dataclass
class WrittenMember:
    """A member, and its place where the text has it.

    ``offset`` is in bits from the outermost struct, ``size`` in bytes; a bit-field's is that of its
    type.
    """

    name: str
    type: Written
    bits: int = 0
    offset: int | None = None
    size: int | None = None


def leaf(written: Written) -> Spec:
    """Return what a type is made of, without stars, dimensions and parameters."""
    while not isinstance(written, Spec):
        written = written.result if isinstance(written, Function) else written.target
    return written


def parse(text: str, name: str = "") -> Written:
    """Return the type that a text is, without or with gdb's ``type =`` before it.

    :param name: what the text declares; it is no type alone then.
    :raises ValueError: the text is no type, such as an expression, or it declares another name.
    """
    parser = _Parser(text)
    parser.skip("type", "=")
    declared, written, _ = parser.declaration(parser.specifier())
    if declared != name or parser.token():
        raise ValueError(f"not a type: {text!r}")
    return written


def parse_name(text: str) -> Written:
    """Return the type that a user names: it has no members, and the text declares nothing.

    :raises ValueError: the text is no name of a type.
    """
    if NO_NAME.search(text):
        raise ValueError(f"not a type: {text!r}")
    return parse(text)


_Wrap = Callable[[Written], Written]


class _Parser:
    """A text that is read from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._tokens = self._read(text)
        self._at = 0
        self.offset: int | None = None  # of the last comment
        self.size: int | None = None
        self.total: int | None = None

    @staticmethod
    def _read(text: str) -> list[tuple[str, str]]:
        """Return the tokens of a text, each with the comments before it."""
        tokens, comments = [], ""
        for found in TOKEN.finditer(text):
            if found[2] is None:
                comments += f"{found[1]}\n"
            else:
                tokens.append((comments, found[2]))
                comments = ""
        return [*tokens, (comments, "")]

    def token(self) -> str:
        """Return the next token, which stays the next one; nothing at the end."""
        return self._tokens[self._at][1]

    def next(self) -> str:
        """Return the next token, and go on; note what the comments before it say."""
        comments, token = self._tokens[self._at]
        if comments:
            self._note(comments)
        if token:
            self._at += 1
        return token

    def _note(self, comments: str) -> None:
        self.offset = self.size = self.total = None
        for line in comments.splitlines():
            if found := PLACE.fullmatch(line):
                self.offset, self.size = int(found[1]) * 8 + int(found[2] or 0), int(found[3])
            elif found := SIZE.fullmatch(line):
                self.size = int(found[1])
            elif found := TOTAL.fullmatch(line):
                self.total = int(found[1])

    def expect(self, token: str) -> None:
        """Go past a token.

        :raises ValueError: the next token is another one.
        """
        found = self.next()
        if found != token:
            raise ValueError(f"{found!r} instead of {token!r}")

    def skip(self, *tokens: str) -> bool:
        """Go past some tokens if they are the next ones; return whether they are."""
        ahead = [token for _, token in self._tokens[self._at : self._at + len(tokens)]]
        if ahead != [*tokens]:
            return False
        for _ in tokens:
            self.next()
        return True

    # What a declaration begins with

    def specifier(self) -> Spec:
        """Return the type at the beginning of a declaration."""
        words: list[str] = []
        while self.token() not in TAGS:
            if self.token() in BASIC:
                words.append(self.next())
            elif self.token() in QUALIFIERS:
                self.next()
            elif words or not NAME.fullmatch(self.token()):
                break
            else:
                spec = Spec("", self.next())
                self._qualifiers()
                return spec
        if words:
            if base_type(words) is None:
                raise ValueError(f"{' '.join(words)}: not a type")
            return Spec("", " ".join(words), basic=True)
        if self.token() not in TAGS:
            raise ValueError(f"{self.token()!r}: not a type")
        spec = Spec(self.next(), None)
        if NAME.fullmatch(self.token()):
            spec.name = self.next()
        if self.skip(":"):  # what an enum is made of
            self.specifier()
        if self.skip("{"):
            self._body(spec)
        elif spec.name is None:
            raise ValueError(f"{spec.word} without a name")
        self._qualifiers()
        return spec

    def _qualifiers(self) -> None:
        while self.token() in QUALIFIERS:
            self.next()

    def _body(self, spec: Spec) -> None:
        if self.skip("...", "}"):
            return
        if self.token().startswith("<"):  # <incomplete type>, <no data fields>
            if self.next() == "<no data fields>":
                spec.members = []
            self.expect("}")
        elif spec.word == "enum":
            spec.values = [*self._enumerators()]
        else:
            spec.members = []
            while not self.skip("}"):
                spec.members.append(self._member())
        spec.size = self.total

    def _enumerators(self) -> Iterator[tuple[str, int]]:
        value = -1
        while not self.skip("}"):
            name, value = self.next(), value + 1
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r}: not a name")
            if self.skip("="):
                value = int(self.next())
            yield name, value
            self.skip(",")

    def _member(self) -> WrittenMember:
        self._note(self._tokens[self._at][0])
        offset, size = self.offset, self.size
        spec = self.specifier()
        name, written, bits = self.declaration(spec)
        self.expect(";")
        return WrittenMember(name, written, bits, offset, size)

    # What follows it

    def declaration(self, spec: Spec) -> tuple[str, Written, int]:
        """Return the name, the type and the bits of what is declared."""
        name, wrap = self._declarator()
        bits = int(self.next()) if self.skip(":") else 0
        return name, wrap(spec), bits

    def _declarator(self) -> tuple[str, _Wrap]:
        if self.skip("*"):
            self._qualifiers()
            name, outer = self._declarator()
            return name, lambda written: outer(Pointer(written))
        name = ""
        inner: _Wrap = _same
        if self.token() == "(" and self._tokens[self._at + 1][1] in ("*", "("):
            self.next()
            name, inner = self._declarator()
            self.expect(")")
        elif NAME.fullmatch(self.token()):
            name = self.next()
        suffixes: list[_Wrap] = []
        while self.token() in ("[", "("):
            suffixes.append(self._dimension() if self.next() == "[" else self._parameters())

        def wrap(written: Written) -> Written:
            for suffix in reversed(suffixes):
                written = suffix(written)
            return inner(written)

        return name, wrap

    def _dimension(self) -> _Wrap:
        count = 0 if self.token() == "]" else int(self.next())
        self.expect("]")
        return lambda written: Array(max(count, 0), written)

    def _parameters(self) -> _Wrap:
        parameters: list[Written] = []
        if not (self.skip("void", ")") or self.skip(")")):
            while True:
                if not self.skip("..."):
                    parameters.append(self.declaration(self.specifier())[1])
                if self.skip(")"):
                    break
                self.expect(",")
        return lambda written: Function(written, parameters)


def _same(written: Written) -> Written:
    return written
