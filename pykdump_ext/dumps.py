"""Dumps of any format that crash can read of a Xen host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .errors import P2mError
from .files import FLATTENED_SIGNATURE, open_file
from .kdumpfile import SIGNATURE, KdumpFile
from .memory import ElfCore, MachineMemory, Note

ELF_CORE = (b"\x7fELF", b"\x04\x00")  # how it begins; e_type ET_CORE at offset 16


class Dump(MachineMemory, Protocol):
    """A dump: machine memory, and the notes that came with it; ``format`` is for people."""

    notes: list[Note]
    format: str


def is_dump(path: str | Path) -> bool:
    """True when the file begins as a dump does, whatever comes of the rest."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(18)
    except OSError:
        return False
    return head.startswith((SIGNATURE, FLATTENED_SIGNATURE)) or (head[:4], head[16:]) == ELF_CORE


def open_dump(paths: Sequence[str | Path]) -> Dump:
    """Open a dump: ELF or kdump-compressed, each of them plain or flattened.

    :param paths: its file; of a split dump its files, in any order.
    :raises P2mError: it is not a dump that can be read.
    """
    if not paths:
        raise P2mError("no dump is given")
    first, *others = map(open_file, paths)
    packed = [file.read_at(0, len(SIGNATURE)) == SIGNATURE for file in (first, *others)]
    if others and not all(packed):
        raise P2mError(f"{', '.join(map(str, paths))}: not the files of one split dump")
    if packed[0]:
        return KdumpFile([first, *others])
    return ElfCore(first)
