# SPDX-License-Identifier: GPL-3.0-or-later
"""Places of members where gdb's ``ptype/o`` has none.

gdb 7.6, in crash 7.0.0 to 7.3.2, has no ``/o``.

gdb says where a member is that has a name and an address.  Two kinds have none:

- A bit-field.  gdb reads it at places whose bytes are known, in the kernel's code; only one
  position in the struct gives all these values.
- An anonymous struct or union.  It begins where its first member does, and ends behind its last
  one; its size is a multiple of its alignment, as in the x86-64 ABI.  Where the member behind it
  is further away than the ABI needs, the struct has an alignment of its own, such as
  ``____cacheline_aligned``, and fills the space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .codes import TYPE_CODE_ARRAY, TYPE_CODE_STRUCT, TYPE_CODE_UNION
from .model import TYPEDEF, CType
from .text import Array, Pointer, Spec, WrittenMember, leaf, parse

__all__ = ["Memory", "Places", "without_size"]

ROOT = "$pykdump_ext"  # variables of gdb that begin so point to structs
LONGEST = 1200  # bytes of a command; crash takes 1499
PROBES, MOST_PROBES = 12, 480  # places where a bit-field is read; at most
WORD = (1 << 64) - 1


@dataclass
class Memory:
    """Bytes that gdb reads too: the kernel's code, which is in every dump."""

    start: Callable[[], int]
    read: Callable[[int, int], bytes]


class Places:
    """Finds where members are.

    :param run: runs a command of gdb, and returns what it prints, or None where it fails.
    :param of_member: returns the type of a member as the model has it.
    """

    def __init__(
        self,
        run: Callable[[str], str | None],
        of_member: Callable[[WrittenMember], CType],
        memory: Memory,
    ) -> None:
        self._run = run
        self._of_member = of_member
        self._memory = memory
        self._depth = 0

    def add(self, about: str, spec: Spec) -> None:
        """Write the places of all members into a struct.

        :param about: the name of its type, or an expression that has this type.
        :raises LookupError: they cannot be found.
        """
        with self._own_root() as root:
            if self._run(f"set {root} = ({about} *)0") is None:
                # gdb evaluates nothing in __typeof__(); gdb 13 has $_shell(), which runs programs
                if self._run(f"set {root} = (__typeof__(&({about})))0") is None:
                    raise LookupError(about)
                pointer = parse(self._run(f"whatis/r {root}") or "")
                while isinstance(pointer, Pointer) and isinstance(pointer.target, Array):
                    self._run(f"set {root} = &(*{root})[0]")
                    pointer = Pointer(pointer.target.target)
            self._at(root, spec)

    @contextmanager
    def _own_root(self) -> Iterator[str]:
        """Give a variable of gdb: to look up a member may need the places in another struct."""
        self._depth += 1
        try:
            yield f"{ROOT}{self._depth}"
        finally:
            self._depth -= 1

    def _at(self, root: str, spec: Spec) -> None:
        """Write the places into a struct that a variable of gdb points to."""
        self._expand(root, spec, "")
        base, size = self._values([root, f"sizeof(*{root})"])
        spec.size, spec.start = size, 0
        members = [*_members(spec, "")]
        named = [(path, member) for path, member in members if not member.bits]
        offsets = self._values([f"&{root}->{path}" for path, _ in named])
        for (_, member), offset in zip(named, offsets):
            member.offset = ((offset - base) & WORD) * 8
        for path, member in members:
            # gdb looks up each name that an expression has, so it is not asked what is known
            if leaf(member.type).word and not leaf(member.type).name:
                (member.size,) = self._values([f"sizeof({root}->{path})"])
            else:
                member.size = self._of_member(member).size()
            inner = _embedded(member)
            if inner:
                inner.size = self._values([f"sizeof({root}->{path}{_first(member)})"])[0]
        fields = [(path, member) for path, member in members if member.bits]
        behind = [(path, member) for path, member in members if _behind_pointer(member)]
        if fields or behind:
            if not size:
                raise LookupError("a struct without a size has bit-fields")
            steps = ((self._memory.start() - base) & WORD) // size + 1
            self._run(f"set {root} = {root} + {steps}")
            if fields:
                self._find_fields(root, fields, size)
        self._enclose(spec)
        for path, member in behind:
            with self._own_root() as inner_root:
                self._run(f"set {inner_root} = {root}->{path}{_first(member)}")
                self._at(inner_root, leaf(member.type))

    def _expand(self, root: str, spec: Spec, path: str) -> None:
        """Write into a struct what gdb shows as ``{...}``: the third level, without ``/o``."""
        for member in spec.members or ():
            inner = leaf(member.type)
            shown = inner.name or inner.members is not None or inner.values is not None
            if member.name and not shown:
                found = leaf(parse(self._run(f"ptype/r {root}->{path}{member.name}") or ""))
                inner.members, inner.values = found.members, found.values
            embedded = _embedded(member)
            if embedded and not embedded.name:
                into = f"{path}{member.name}{_first(member)}." if member.name else path
                self._expand(root, embedded, into)

    def _values(self, expressions: Sequence[str]) -> list[int]:
        """Return the values of some expressions, which are unsigned numbers.

        :raises LookupError: gdb cannot evaluate one of them.
        """
        found: list[int] = []
        at = 0
        while at < len(expressions):
            end, length = at, 0
            while end < len(expressions) and (end == at or length < LONGEST):
                length += len(expressions[end]) + len("%lu ,")
                end += 1
            if length > LONGEST and end - at > 1:
                end -= 1
            asked = expressions[at:end]
            printed = self._run(f'printf "{"%lu " * len(asked)}", {",".join(asked)}')
            if printed is None or len(printed.split()) != len(asked):
                raise LookupError(asked[0])
            found += map(int, printed.split())
            at = end
        return found

    # Bit-fields

    def _find_fields(self, root: str, fields: list[tuple[str, WrittenMember]], size: int) -> None:
        """Write the places of bit-fields into them; the root is in the kernel's code.

        :raises LookupError: more than one place is possible.
        """
        (start,) = self._values([root])
        possible = [[*range(size * 8 - member.bits + 1)] for _, member in fields]
        probes = range(0)
        while any(len(places) > 1 for places in possible):
            probes = range(probes.stop, probes.stop + PROBES)
            if probes.stop > MOST_PROBES:
                raise LookupError("bit-fields of more than one possible place")
            for (path, member), places in zip(fields, possible):
                if len(places) > 1:
                    values = self._values([f"{root}[{number}].{path}" for number in probes])
                    mask = (1 << member.bits) - 1
                    for number, value in zip(probes, values):
                        data = self._memory.read(start + number * size, size)
                        bits = int.from_bytes(data, "little")
                        places[:] = [p for p in places if bits >> p & mask == value & mask]
        for (_, member), places in zip(fields, possible):
            if not places:
                raise LookupError(f"no place for the bit-field {member.name}")
            member.offset = places[0]

    # Anonymous structs

    def _enclose(self, spec: Spec) -> None:
        """Write the place and the size of each anonymous struct in a struct into it."""
        behind: WrittenMember | None = None
        for member in reversed(spec.members or ()):
            inner = _embedded(member)
            if inner is not None:
                self._enclose(inner)
                if not member.name:
                    member.offset, member.size = self._extent(inner, behind)
                    inner.size = member.size
                inner.start = member.offset
            behind = member if spec.word == "struct" else None

    def _extent(self, spec: Spec, behind: WrittenMember | None) -> tuple[int, int]:
        """Return where a struct begins, in bits, and its size, in bytes, by its members.

        :param behind: the member that follows it.
        """
        unit = 8 * self._alignment_of(spec)
        places = [
            (each.offset, each.bits) for each in spec.members or () if each.offset is not None
        ]
        start, bits = min(places, default=(0, 0))
        if bits:  # there may be some without a name before them
            start = start // unit * unit
        end = max((_end(each) for each in spec.members or ()), default=0)
        if start % unit == 0:  # else the outer struct is packed
            end = _up(end, unit)
        if behind and behind.offset is not None and not behind.bits:
            inner = _embedded(behind)
            needed = self._alignment_of(inner) if inner else _alignment(self._of_member(behind))
            if not end <= behind.offset <= _up(end, 8 * needed):
                end = behind.offset
        return start, -(-(end - start) // 8)

    def _alignment_of(self, spec: Spec) -> int:
        """Return the alignment of a struct, in bytes."""
        found = 1
        for member in spec.members or ():
            inner = _embedded(member)
            if inner is not None:
                found = max(found, self._alignment_of(inner))
            else:
                found = max(found, _alignment(self._of_member(member)))
        return found


def _members(spec: Spec, path: str) -> Iterator[tuple[str, WrittenMember]]:
    """Yield the members that have names, and how each is named from the outermost struct."""
    for member in spec.members or ():
        if member.name:
            yield path + member.name, member
        inner = _embedded(member)
        if inner:
            yield from _members(
                inner, f"{path}{member.name}{_first(member)}." if member.name else path
            )


def without_size(spec: Spec, path: str = "") -> Iterator[tuple[str, Spec]]:
    """Yield the elements of arrays without a size, where gdb's text does not have their size.

    Their name would not be enough to ask for it: units may have different types of one name.

    :return: how gdb names the first element, from the outermost struct, and the element's type.
    """
    for member in spec.members or ():
        of, first = member.type, f"{path}{member.name}{_first(member)}"
        while isinstance(of, Array):
            of = of.target
        if not isinstance(of, Spec) or not of.word:
            continue
        if of.size is None and of is not member.type and not member.size:
            yield first, of
        if not of.name:
            yield from without_size(of, f"{first}." if member.name else path)


def _embedded(member: WrittenMember) -> Spec | None:
    """Return the struct that a member is or has elements of, where the text has its members."""
    of = member.type
    while isinstance(of, Array):
        of = of.target
    return of if isinstance(of, Spec) and of.members is not None else None


def _first(member: WrittenMember) -> str:
    """Return what follows the name of a member for its first element."""
    of, dimensions = member.type, 0
    while isinstance(of, Array):
        of, dimensions = of.target, dimensions + 1
    return "[0]" * dimensions


def _behind_pointer(member: WrittenMember) -> bool:
    of = member.type
    while isinstance(of, Array):
        of = of.target
    inner = of.target if isinstance(of, Pointer) else None
    return isinstance(inner, Spec) and inner.members is not None


def _up(place: int, unit: int) -> int:
    """Return the first multiple of a unit that is not below a place."""
    return -(-place // unit) * unit


def _end(member: WrittenMember) -> int:
    """Return the bit behind a member."""
    return (member.offset or 0) + (member.bits or 8 * (member.size or 0))


def _alignment(of: CType) -> int:
    """Return the alignment of a type, in bytes."""
    if of.code in (TYPEDEF, TYPE_CODE_ARRAY) and of.target is not None:
        return _alignment(of.target)
    if of.code not in (TYPE_CODE_STRUCT, TYPE_CODE_UNION):
        return max(of.size(), 1)
    found = 1
    for member in of.members():
        each = _alignment(member.type)
        if not member.bits and member.offset % (8 * each):
            return 1  # packed
        found = max(found, each)
    return found
