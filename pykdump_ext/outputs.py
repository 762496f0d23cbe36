# SPDX-License-Identifier: GPL-3.0-or-later
"""The writing of files: completely or not at all, and never over a dump."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import P2mError
from .machine.dumps import is_dump

__all__ = ["new_file", "write_file"]

WRITABLE = 0o666  # the mode of a new file, less the umask


@contextmanager
def new_file(target: Path, mode: int | None = None) -> Iterator[tuple[int, Path]]:
    """Yield an empty file that becomes ``target`` when the block ends without an exception.

    The block gets the open file descriptor and the file's temporary name, in the folder of
    ``target``. After an exception the file is removed.

    :param mode: the permission bits; by default those of any new file.
    :raises OSError: the file cannot be written.
    """
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    unfinished = Path(name)
    try:
        try:
            yield fd, unfinished
            if mode is None:
                umask = os.umask(0)
                os.umask(umask)
                mode = WRITABLE & ~umask
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_file(path: str, content: bytes, inputs: Iterable[str] = ()) -> None:
    """Write a file, completely or not at all; a device or a pipe is written directly.

    :param inputs: files that must not be written, such as the dump.
    :raises P2mError: ``path`` is one of ``inputs`` or any dump, or cannot be written.
    """
    target = Path(path)
    try:
        if target.exists():
            for name in inputs:
                if target.samefile(name):
                    raise P2mError(f"{path}: is {name}, which is never written")
            if is_dump(target):
                raise P2mError(f"{path}: is a dump, which is never replaced; name another file")
            if not target.is_file():
                with target.open("wb") as device:
                    device.write(content)
                return
        resolved = target.resolve()
        if resolved.is_symlink():  # Python 3.13 gives a link back that leads to itself
            raise P2mError(f"{path}: its links lead in a circle")
        with new_file(resolved) as (fd, _), os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None
    except (RuntimeError, ValueError) as error:  # links in a circle before Python 3.13; a NUL
        raise P2mError(f"{path}: {error}") from None
