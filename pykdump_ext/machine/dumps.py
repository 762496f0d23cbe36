# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of Xen hosts in each format that crash reads: recognise, group and open them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import P2mError
from .elf import ElfCore
from .files import FLATTENED_SIGNATURE, open_file
from .kdump import SIGNATURE, UNFINISHED_FILE, KdumpFile, split_range
from .memory import MachineMemory
from .notes import Note
from .others import refuse_one_domain, refuse_packed

__all__ = ["HEAD", "Dump", "begins_as_dump", "group_dumps", "is_dump", "open_dump", "zeros_help"]

HEAD = 18  # bytes that tell a dump
ELF_CORE = (b"\x7fELF", b"\x04\x00")  # the magic at offset 0; e_type, ET_CORE, at offset 16


class Dump(MachineMemory, Protocol):
    """A dump: machine memory and ELF notes; ``format`` is the format's name for messages."""

    format: str

    @property
    def incomplete(self) -> str | None:
        """Why a part of the dump is missing from its files, in words; None if it is complete."""
        ...

    @property
    def notes(self) -> list[Note]:
        """The ELF notes, in file order."""
        ...


def is_dump(path: str | Path) -> bool:
    """Return True if the file begins as a dump does; only its first bytes are read."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return begins_as_dump(head)


def begins_as_dump(head: bytes) -> bool:
    """Return True if the first :data:`HEAD` bytes of a file are those of a dump."""
    return head.startswith((SIGNATURE, FLATTENED_SIGNATURE)) or (head[:4], head[16:]) == ELF_CORE


def group_dumps(paths: Iterable[str], anywhere: bool = False) -> list[list[str]]:
    """Return the files of each dump among ``paths``, in the order given.

    The files of a split dump (``makedumpfile --split``) share a header, and no two hold
    the same frames. Every other file is a dump of its own.

    :param anywhere: the files of one dump may be in several folders.
    """
    groups: list[list[str]] = []
    paths = list(paths)
    if len(paths) == 1:
        return [paths]
    taken: list[tuple[tuple[Path | None, bytes], list[tuple[int, int]]] | None] = []
    for path in paths:
        try:
            split = split_range(open_file(path))
        except P2mError:
            split = None
        if split is None:
            groups.append([path])
            taken.append(None)
            continue
        header, start, end = split
        key = (None if anywhere else Path(path).resolve().parent, header)
        for group, known in zip(groups, taken):
            if known and known[0] == key and all(end <= s or e <= start for s, e in known[1]):
                group.append(path)
                known[1].append((start, end))
                break
        else:
            groups.append([path])
            taken.append((key, [(start, end)]))
    return groups


def open_dump(paths: Sequence[str | Path]) -> Dump:
    """Open a dump: ELF or kdump-compressed, plain or flattened.

    :param paths: the dump's file, or the files of a split dump in any order.
    :raises OtherFileError: the file is packed, or the dump of one domain.
    :raises P2mError: the files are not a dump that can be read.
    """
    if not paths:
        raise P2mError("no dump is given")
    first, *others = map(open_file, paths)
    packed = [file.read_at(0, len(SIGNATURE)) == SIGNATURE for file in (first, *others)]
    if others and not all(packed):
        raise P2mError(f"{', '.join(map(str, paths))}: not the files of one split dump")
    if packed[0]:
        return KdumpFile([first, *others])
    refuse_packed(first)
    core = ElfCore(first)
    refuse_one_domain(core)
    return core


def zeros_help(dump: Dump) -> bool:
    """Return True if crash reads what is missing of an incomplete dump as zeros when asked to.

    Its ``--zero_excluded`` does so behind the end of an ELF file (read_netdump() of netdump.c) and
    where makedumpfile gave a page no place (cache_page() of diskdump.c), and not in a flattened
    file. Without the notes crash does not take the file for a dump.
    """
    if isinstance(dump, ElfCore):
        return bool(dump.missing and dump.notes) and not dump.file.flattened
    return dump.incomplete == UNFINISHED_FILE and "flattened" not in dump.format
