# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own files that ``setup`` edits: read, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ..outputs import new_file

__all__ = ["read_lines", "write_lines"]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file with their ends, or none if there is no file.

    :raises OSError: the file cannot be read.
    """
    if not path.exists():
        return []
    return path.read_text(errors="surrogateescape").splitlines(keepends=True)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a file, whole or not at all; a file that exists keeps its mode.

    :raises OSError: the file cannot be written.
    """
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    with new_file(target, mode) as (_, unfinished):
        unfinished.write_text("".join(lines), errors="surrogateescape")
