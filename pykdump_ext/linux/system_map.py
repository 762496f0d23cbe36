# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's System.map: the addresses of its symbols, as ``nm`` prints them."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import P2mError

__all__ = ["SystemMap", "is_system_map"]

LARGEST = 64 << 20  # bytes; a kernel's has about 5 MiB
LINE = rb"[0-9a-fA-F]{1,16} [A-Za-z?] [^ \n]+"


def is_system_map(head: bytes) -> bool:
    """Return True if a file with these first bytes is a System.map.

    :param head: some lines of it; the last may be cut.
    """
    lines = head.split(b"\n")[:-1]
    return len(lines) > 2 and all(re.fullmatch(LINE, line) for line in lines)


class SystemMap:
    """The symbols of a System.map.

    :raises P2mError: the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._text = b"\n" + file.read(LARGEST)
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None

    def address(self, name: str) -> int | None:
        """Return the address of the symbol ``name``, or None."""
        at = self._text.find(b" " + name.encode() + b"\n")
        line = self._text[self._text.rfind(b"\n", 0, at) + 1 : at] if at > 0 else b""
        found = re.fullmatch(rb"([0-9a-fA-F]{1,16}) [A-TV-Za-tv-z?]", line)
        return int(found[1], 16) if found else None
