# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door for files that are written: whole or not at all, and never over a dump."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import P2mError
from .machine.dumps import is_dump

__all__ = ["check_space", "check_target", "mode_of", "new_file", "write_at", "write_file"]

WRITABLE = 0o666  # the mode of a new file, less the umask
OWN_FILES = Path("/proc/self/fd")

# --------------------------------------------------------------------------
# What is never replaced

HEAD = 1024  # bytes, which have all of these

DUMPS = (  # of crash's formats, those that p2mfix does not open
    b"DISKDUMP",  # diskdump.h of crash
    b"\xed\x23\x8f\x61\x73\x01\x19\xa8", b"\xa8\x19\x01\x73\x61\x8f\x23\xed",  # lkcd_vmdump_v1.h
    b"QEVM",  # qemu-load.h: virsh save
    b"PAGEDU64", b"PAGEDUMP",  # of Windows guests, as QEMU's dump-guest-memory -w writes them
    b"LinuxGuestRecord", b"\xed\xeb\x0f\xf0", b"\xee\xeb\x0f\xf0",  # xendump.h: xm save, xm dump
    b"\xd0\xbe\xd0\xbe", b"\xd2\xbe\xd2\xbe", b"\xd3\xbe\xd3\xbe",  # vmware_vmss.h
    b"\xd1\xba\xd1\xba", b"\xd2\xba\xd2\xba",
    b"sadump\0\0",  # sadump.h
)  # fmt: skip
PACKED = (
    b"\x1f\x8b", b"\x1f\x9d", b"BZh",  # gzip compress bzip2
    b"\xfd7zXZ\0", b"\x5d\0\0", b"\x89LZO\0",  # xz lzma lzop
    b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18",  # zstd lz4, lz4 of a kernel
    b"PK\x03\x04", b"7z\xbc\xaf", b"!<arch>\n", b"\xed\xab\xee\xdb",  # zip 7z ar rpm
    b"070701",  # cpio
)  # fmt: skip
SYMBOL_LINE = re.compile(rb"[0-9a-f]{8,16} [A-Za-z] [\w.$]+\s")  # of a System.map


def kind_of(path: Path) -> str | None:
    """Return what a file is that must not be replaced, or None.

    :raises OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_dump(path) or head.startswith(DUMPS):
        return "a dump"
    if head.startswith(b"\x7fELF"):
        return "an ELF file, such as a vmlinux"
    if head.startswith(b"MZ") or head[0x202:0x206] == b"HdrS":  # Linux: arch/x86/boot/header.S
        return "a bootable kernel"
    if SYMBOL_LINE.match(head):
        return "a System.map"
    if head.startswith(PACKED) or head[257:262] == b"ustar":
        return "a compressed file or an archive, which may have a dump in it"
    return None


def _refuse(path: Path, there: os.stat_result, inputs: Iterable[str | Path]) -> None:
    """Raise an error if a file is one of ``inputs``, or may hold a dump or a namelist.

    :raises P2mError: it is, or it cannot be read.
    """
    for name in inputs:
        with suppress(OSError):
            if os.path.samestat(Path(name).stat(), there):
                raise P2mError(f"{path}: is {name}, which is never written")
    if stat.S_ISBLK(there.st_mode):
        raise P2mError(f"{path}: is a disk, which is never written")
    if stat.S_ISREG(there.st_mode):
        try:
            kind = kind_of(path)
        except OSError as error:
            raise P2mError(
                f"{path}: exists and may be a dump, because it cannot be read"
                f" ({error.strerror}); name another file"
            ) from None
        if kind:
            raise P2mError(f"{path}: is {kind}, which is never replaced; name another file")


def _read_here() -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the name and the status of each file that this process reads.

    In a session these are crash's files as well, such as all parts of a split dump.
    """
    for path in OWN_FILES.iterdir() if OWN_FILES.exists() else ():
        fd = int(path.name)
        with suppress(OSError):  # the list itself was open
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
                yield path.readlink(), os.fstat(fd)


def check_target(path: Path, inputs: Iterable[str | Path] = (), replace: bool = True) -> Path:
    """Return where a new file at ``path`` is, links followed, if it may be written there.

    :param inputs: files that must not be written, such as the dump.
    :param replace: a file that is there may be replaced.
    :raises P2mError: it may not.
    :raises OSError: it cannot be.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    except ValueError as error:  # a NUL
        raise P2mError(f"{path}: {error}") from None
    target = path.resolve()
    if there is None:
        if not target.parent.is_dir():
            raise P2mError(f"{target.parent}: no such folder")
    else:
        _refuse(path, there, inputs)
        if not stat.S_ISREG(there.st_mode):
            raise P2mError(f"{path}: is not a file; name a new file")
        for name, opened in _read_here():
            if os.path.samestat(opened, there):
                raise P2mError(f"{path}: is {name}, which is open here and never written")
    if not replace and os.path.lexists(path):
        raise P2mError(f"{path}: exists; name another file, or use --force")
    return target


# --------------------------------------------------------------------------
# Files


@contextmanager
def new_file(
    path: Path,
    mode: int | None = None,
    inputs: Iterable[str | Path] = (),
    replace: bool = True,
) -> Iterator[tuple[int, Path]]:
    """Yield an empty file that becomes ``path`` when the block ends without an exception.

    The block gets the open file descriptor, and a path by which the file can be opened again
    until the block ends. Until then the file has no name, or a temporary one where the file
    system has no files without a name; only one of those is left behind by a ``kill -9``.

    :param mode: the permission bits; by default those of any new file.
    :param inputs: see :func:`check_target`, as ``replace``.
    :raises P2mError: ``path`` must not be written.
    :raises OSError: the file cannot be written.
    """
    inputs = tuple(inputs)
    target = check_target(path, inputs, replace)
    fd, unfinished = _unnamed(target.parent) or _named(target.parent)
    try:
        yield fd, unfinished
        os.fchmod(fd, WRITABLE & ~_umask() if mode is None else mode)
        os.fsync(fd)
        try:
            _link(unfinished, target)
        except OSError:  # there is a file, or the file system has no hard links
            check_target(target, inputs, replace)
            if unfinished.parent == OWN_FILES:
                unfinished = _linked(unfinished, target.parent)
            unfinished.replace(target)
    finally:
        if unfinished.parent != OWN_FILES:
            unfinished.unlink(missing_ok=True)
        os.close(fd)


def mode_of(sources: Iterable[str | Path]) -> int:
    """Return the permission bits of what is made from these files: those that all of them have.

    :raises OSError: there is no such file.
    """
    mode = 0o777
    for path in sources:
        mode &= Path(path).stat().st_mode
    return mode


def check_space(fd: int, folder: Path, more: int) -> None:
    """Raise an error unless ``folder`` has room for a copy of an open file and ``more`` bytes.

    :raises P2mError: it has less.
    """
    needed = min(os.fstat(fd).st_blocks * 512, os.fstat(fd).st_size) + more
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise P2mError(
            f"{folder.resolve()}: has {free / 1e9:.1f} GB free,"
            f" the copy takes {needed / 1e9:.1f} GB: write it to another file system,"
            " or open the dump with p2mfix VMLINUX VMCORE, which writes nothing"
        )


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data``; one ``os.pwrite()`` may write less, on a disk that is nearly full.

    :raises OSError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _unnamed(folder: Path) -> tuple[int, Path] | None:
    """Return a new file in ``folder`` that has no name, and its path; None if there is no such."""
    with suppress(OSError):
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        path = OWN_FILES / str(fd)
        if path.exists():
            return fd, path
        os.close(fd)
    return None


def _named(folder: Path) -> tuple[int, Path]:
    fd, name = tempfile.mkstemp(prefix=".p2mfix-", dir=folder)
    return fd, Path(name)


def _linked(unnamed: Path, folder: Path) -> Path:
    """Give an unnamed file a temporary name in ``folder``, and return it."""
    named = folder / f".p2mfix-{secrets.token_hex(8)}"
    _link(unnamed, named)
    return named


def _link(path: Path, name: Path) -> None:
    """Give a file one more name, which nothing has.

    :raises OSError: something has it, or the file system has no hard links.
    """
    # Only with a folder to start at, here none, does every Python follow the link of /proc
    os.link(path, name, src_dir_fd=-1, follow_symlinks=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_file(path: str, content: bytes, inputs: Iterable[str | Path] = ()) -> None:
    """Write a file, completely or not at all; a device or a pipe is written directly.

    :param inputs: files that must not be written, such as the dump.
    :raises P2mError: ``path`` must not or cannot be written.
    """
    inputs = tuple(inputs)
    try:
        stream = _stream(Path(path), inputs)
        if stream is not None:
            with stream:
                stream.write(content)
            return
        with new_file(Path(path), None, inputs) as (fd, _), os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None


def _stream(path: Path, inputs: Iterable[str | Path]) -> BinaryIO | None:
    """Return the standard output, the device or the pipe at ``path``, or None for a file."""
    try:
        there = path.stat()
    except (FileNotFoundError, ValueError):
        return None
    _refuse(path, there, inputs)
    for fd in (1, 2):  # /dev/stdout may be a file, which ``>`` made
        with suppress(OSError):
            if os.path.samestat(os.fstat(fd), there):
                sys.stdout.flush()
                return os.fdopen(os.dup(fd), "wb")
    if stat.S_ISREG(there.st_mode):
        return None
    fd = os.open(path, os.O_WRONLY)  # cuts nothing off
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise P2mError(f"{path}: was no file, and is one now; name another file")
    return os.fdopen(fd, "wb")
