# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast start of crash: the lines in ``.gdbinit``, and the script that they run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import P2mError
from ..launch.crash_versions import installed_crash, starts_faster_with_index
from ..launch.fast_start import gdbinit_lines, hook
from ..launch.index_cache import data_folder, index_cache, user_folder
from ..outputs import new_file
from .user_files import read_lines, write_lines

__all__ = ["add_fast_start", "fast_start_state", "remove_fast_start"]

BEGIN = "# pykdump-ext setup --fast-start: its lines begin\n"
END = "# pykdump-ext setup --fast-start: its lines end\n"
QUOTES = "'\"\\%\n"
"""Letters that gdb or a shell takes for something else."""


def gdbinits() -> Iterator[Path]:
    """Yield the files that crash's gdb may read: gdb 11 and newer have a place of their own."""
    yield Path("~/.gdbinit").expanduser()
    newer = user_folder("XDG_CONFIG_HOME", "~/.config") / "gdb" / "gdbinit"
    if newer.exists():  # then gdb 11 and newer do not read the other
        yield newer


def script_path() -> Path:
    """Return where the script belongs: in the user's data folder, which outlives the environment.

    :raises P2mError: the lines cannot name it, or the cache.
    """
    script = data_folder() / "fast-start"
    for path in (script, index_cache()):
        for letter in set(str(path)) & set(QUOTES):
            raise P2mError(
                f"{path}: .gdbinit cannot name this path, because of the {letter!r} in it:"
                " set XDG_DATA_HOME and XDG_CACHE_HOME to folders without one"
            )
    return script


def without_ours(lines: list[str]) -> list[str]:
    """Return the lines that are not between our marks."""
    if BEGIN not in lines or END not in lines[lines.index(BEGIN) :]:
        return lines
    start = lines.index(BEGIN)
    return [*lines[:start], *without_ours(lines[lines.index(END, start) + 1 :])]


def ours() -> list[str]:
    """Return our lines, the marks among them.

    :raises P2mError: they cannot name a path.
    """
    return [BEGIN, *(f"{line}\n" for line in gdbinit_lines(script_path())), END]


def add_fast_start() -> Iterator[str]:
    """Add our lines to ``.gdbinit``, and put the script in its place; yield what was done.

    :raises P2mError: the lines cannot name the path of the script.
    :raises OSError: a file cannot be read or written.
    """
    script = script_path()
    script.parent.mkdir(parents=True, exist_ok=True)
    if not script.is_file() or script.read_text(errors="replace") != hook():
        script.unlink(missing_ok=True)
        with new_file(script, 0o755) as (_, unfinished):
            unfinished.write_text(hook())
    for path in gdbinits():
        old = read_lines(path)
        others = without_ours(old)
        if others and not others[-1].endswith("\n"):
            others[-1] += "\n"
        if old == [*others, *ours()]:
            yield f"{path}: has the lines already"
            continue
        write_lines(path, [*others, *ours()])
        yield f"{path}: lines added"
    with suppress(P2mError):
        crash, version = installed_crash()
        if not starts_faster_with_index(version):
            yield f"{crash} is version {version} and starts as before: crash 9 gains by the lines"


def remove_fast_start() -> Iterator[str]:
    """Remove our lines, the script and the cache; yield what was done, if there was anything.

    :raises OSError: a file cannot be read, written or removed.
    """
    for path in gdbinits():
        old = read_lines(path)
        others = without_ours(old)
        if others == old:
            continue
        if not others and not path.is_symlink():
            path.unlink()
            yield f"{path}: removed, it had the lines of pykdump_ext only"
        else:
            write_lines(path, others)
            yield f"{path}: lines removed"
    with suppress(P2mError, OSError):
        script_path().unlink()
        script_path().parent.rmdir()
    if index_cache().is_dir() and not index_cache().is_symlink():
        shutil.rmtree(index_cache())
        with suppress(OSError):
            index_cache().parent.rmdir()
        yield f"{index_cache()}: removed"


def fast_start_state() -> str:
    """Return a sentence on the lines in ``.gdbinit``, and what is to be done.

    :raises OSError: a file cannot be read.
    """
    path = [*gdbinits()][-1]
    lines = read_lines(path)
    if without_ours(lines) == lines:
        return f"{path} has no lines for it; crash 9 gains by pykdump-ext setup --fast-start"
    with suppress(P2mError, OSError, ValueError):
        added = lines[lines.index(BEGIN) : lines.index(END) + 1]
        if added == ours() and script_path().read_text(errors="replace") == hook():
            return f"{path} has crash 9 keep indexes in {index_cache()}"
    return f"{path} has lines of another installation: run pykdump-ext setup --fast-start"
