# SPDX-License-Identifier: GPL-3.0-or-later
"""A file for ``sys.stdout`` that writes where crash prints."""

from __future__ import annotations

import io
import os
from typing import Any

from .guarded import lib, written

__all__ = ["CrashOutput"]


class _Bytes(io.BufferedIOBase):
    """The bytes of crash's output; they are in the buffer of its stream, and in no other."""

    name = "<crash>"

    def write(self, data: Any) -> int:
        """Write bytes and return their number; raise what :func:`crash.write` raises."""
        copied = bytes(data)
        if copied:
            written(lib.host_write(copied, len(copied)))
        return len(copied)

    def flush(self) -> None:
        """Write what is in the buffer of crash's stream; raise what :func:`crash.write` does."""
        written(lib.host_flush())

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the terminal, pipe or file that output goes to now."""
        number: int = lib.host_output_fd()
        if number < 0:
            raise io.UnsupportedOperation("crash's output has no file descriptor")
        return number

    def isatty(self) -> bool:
        """Return True when output goes to a terminal, and to no pager, pipe or file."""
        return os.isatty(lib.host_output_fd())


class CrashOutput(io.TextIOWrapper):
    """A text file that writes to where crash's output goes now, and keeps nothing back.

    So what is printed, what is written to ``buffer``, and crash's own output come in order.
    """

    def __init__(self) -> None:
        super().__init__(_Bytes(), encoding="utf-8", errors="backslashreplace", write_through=True)

    def reconfigure(self, *, errors: str | None = None, **changes: Any) -> None:
        """Change what ``io.TextIOWrapper`` can; ``errors`` stays as it is if not given."""
        super().reconfigure(errors=errors or self.errors, **changes)
