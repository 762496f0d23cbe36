# SPDX-License-Identifier: GPL-3.0-or-later
"""gdb's index of a kernel, kept from one session to the next: the folder that crash's gdb may use.

Most of a start is gdb reading debug information. gdb can keep an index of it, which it finds again
by build ID. It reads an index as it is, so this module lets it read none that has not been checked.

The cache has a numbered folder for each kernel. In it are ``gdb``, which gdb reads and writes;
``kernel``, what the folder is for; ``writer``, the process that gdb runs in; and ``sums``, the
checked files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import struct
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .crash_versions import starts_faster_with_index

__all__ = ["KERNELS", "data_folder", "index_cache", "index_folder", "is_whole", "user_folder"]

KERNELS = 16
"""So many kernels have an index, of 6 MB or so each; then the least recently used makes room."""

SUFFIX = ".gdb-index"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def user_folder(variable: str, otherwise: str) -> Path:
    """Return the folder that an XDG variable names, or the one that it stands for if unset."""
    chosen = Path(os.environ.get(variable, ""))
    return chosen if chosen.is_absolute() else Path(otherwise).expanduser()


def data_folder() -> Path:
    """Return the user's folder for what ``pykdump-ext setup`` keeps: it outlives an environment."""
    return user_folder("XDG_DATA_HOME", "~/.local/share") / "pykdump-ext"


def index_cache() -> Path:
    """Return the folder that all indexes are in."""
    return user_folder("XDG_CACHE_HOME", "~/.cache") / "pykdump-ext" / "gdb-index"


def index_folder(version: str, namelist: Sequence[str], process: int) -> Path | None:
    """Return the folder that a crash may read and write its index in; None: in none.

    Nothing depends on an index: where anything is wrong with the cache, the answer is None.

    :param version: that of crash.
    :param namelist: the files of the namelist.
    :param process: that of crash.
    """
    if not starts_faster_with_index(version):
        return None
    try:
        cache = index_cache()
        _make_own(cache)
        with _locked(cache):
            folder = _folder_of(cache, _identity(version, namelist))
            busy = _is_written(folder, process)
            if not _has_index(folder, busy):
                if busy:
                    return None  # this crash could read what the other has not finished
                _write(folder / "writer", _name_of(process))
            os.utime(folder / "kernel")
        return folder
    except OSError:
        return None


def _identity(version: str, namelist: Sequence[str]) -> str:
    """Return a text that another crash or another file does not have.

    The build ID is not enough: a kernel keeps it when a program changes its debug information.
    """
    found = sorted((s.st_ino, s.st_size, s.st_mtime_ns) for s in map(os.stat, namelist))
    return hashlib.sha256(repr((version, found)).encode()).hexdigest()


# --------------------------------------------------------------------------
# Folders


def _make_own(folder: Path) -> None:
    """Make a folder that only this user can write to.

    :raises OSError: it cannot be made, or it is another user's, or a link.
    """
    user = os.geteuid()
    above = next(parent for parent in folder.parents[1:] if parent.exists())
    if above.stat().st_uid != user:  # as with sudo, which may keep HOME
        raise PermissionError(above)
    for made in (folder.parent, folder):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = made.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != user:
            raise PermissionError(made)
        if there.st_mode & 0o077:
            made.chmod(0o700)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Hold the lock of the cache.

    :raises OSError: another process holds it for long, maybe because it was stopped.
    """
    with (cache / "lock").open("w") as lock:
        for tries in range(50, -1, -1):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not tries:
                    raise
                time.sleep(0.02)
        yield


def _folder_of(cache: Path, identity: str) -> Path:
    """Return the folder of a kernel; where it has none, make one, maybe in place of the oldest."""
    used = {}
    for folder in (cache / str(number) for number in range(1, KERNELS + 1)):
        try:
            if (folder / "kernel").read_text() == identity:
                return folder
            used[folder] = (folder / "kernel").stat().st_mtime_ns
        except (OSError, ValueError):
            used[folder] = -1  # free, or damaged
    folder = min(used, key=used.__getitem__)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "gdb").mkdir(mode=0o700, parents=True)
    _write(folder / "kernel", identity)
    return folder


def _write(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text)
    unfinished.replace(path)


# --------------------------------------------------------------------------
# The process that writes an index


def _name_of(process: int) -> str:
    """Return a text that no other process has, nor one after the next boot."""
    started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{BOOT_ID.read_text().strip()} {process} {started}"


def _is_written(folder: Path, process: int) -> bool:
    """Return True if a process writes into a folder, and still runs; ``process`` does not count."""
    try:
        name = (folder / "writer").read_text()
        writer = int(name.split()[1])
        return writer != process and _name_of(writer) == name
    except (OSError, ValueError, IndexError):
        return False


# --------------------------------------------------------------------------
# Files


def _has_index(folder: Path, busy: bool) -> bool:
    """Delete what gdb must not read; return True if an index is left.

    :param busy: the process that writes into the folder still runs.
    """
    known, found = _sums(folder), {}
    for path in (folder / "gdb").iterdir():
        if busy and not path.name.endswith(SUFFIX):
            continue  # unfinished
        data = _content(path) if path.name.endswith(SUFFIX) else None
        if data is not None:
            size_and_sum = [len(data), zlib.crc32(data)]
            checked = known.get(path.name)
            if checked == size_and_sum or (checked is None and _is_finished(folder, path, data)):
                found[path.name] = size_and_sum
                continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if found != known:
        _write(folder / "sums", json.dumps(found))
    return bool(found)


def _sums(folder: Path) -> dict[str, list[int]]:
    """Return the size and the sum of each checked file, by its name."""
    with suppress(OSError, ValueError):
        known = json.loads((folder / "sums").read_text())
        if isinstance(known, dict):
            return known
    return {}


def _content(path: Path) -> bytes | None:
    """Return what is in a file of this user's; None for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    there = os.fstat(fd)
    if not stat.S_ISREG(there.st_mode) or there.st_uid != os.geteuid():
        os.close(fd)
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _is_finished(folder: Path, path: Path, data: bytes) -> bool:
    """Return True if a file that no check has seen is on the disk as gdb wrote it.

    What an earlier boot left behind may have lost any of its blocks.
    """
    with suppress(OSError):
        if (folder / "writer").read_text().split()[:1] == [BOOT_ID.read_text().strip()]:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            return is_whole(data)
    return False


def is_whole(data: bytes) -> bool:
    """Return True if an index has its end.

    gdb gives a file its name before it has written the last bytes, and does not notice if they
    find no place on the disk (finalize() of gdb/dwarf2/index-write.c). The end of an index is a
    pool of strings, and the last of them is a name in the table of symbols.
    """
    size = len(data)
    fields = {7: 5, 8: 5, 9: 6}.get(int.from_bytes(data[:4], "little"), 0)  # gdb 16 writes 9
    if not fields or size < 4 + 4 * fields or data[-1]:
        return False
    starts = struct.unpack_from(f"<{fields}I", data, 4)
    symbols, behind, pool = starts[3], starts[4], starts[-1]
    if starts[0] != 4 + 4 * fields or [*starts] != sorted(starts) or pool >= size:
        return False
    table = array("I", data[symbols:behind][: (behind - symbols) // 8 * 8])
    names, units = table[::2], table[1::2]  # offsets in the pool
    return bool(names) and max(names) < size - pool and max(units) + 4 <= size - pool
