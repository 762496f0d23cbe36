# SPDX-License-Identifier: GPL-3.0-or-later
"""A file as it is when it is unpacked: crash takes a vmlinux packed by gzip, bzip2 or xz.

is_compressed_kernel() of crash's symbols.c has these three formats and no other, in all versions.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from io import DEFAULT_BUFFER_SIZE
from pathlib import Path
from typing import BinaryIO

from ..errors import P2mError
from ..machine.files import OpenFile

__all__ = ["LARGEST", "first_bytes", "open_plain", "packing"]

MAGICS = {b"\x1f\x8b\x08": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"(\xb5/\xfd": "zstd"}
ELF = b"\x7fELF"
LARGEST = 2 << 30  # bytes of an unpacked vmlinux; one with all debug information has about 1 GiB
# A vmlinux is some 10 times as large as it is packed; the spare is for a small one
MOST_TIMES = 64
SPARE = 8 << 20
MEMORY = 256 << 20  # bytes, of xz; its highest level needs 65 MiB
BLOCK = 1 << 20
PAGE = 4096  # a block of zeros of that size becomes a hole in the file


def packing(head: bytes) -> str | None:
    """Return the name of the format that a file with these first bytes is packed in, or None."""
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), None)


def first_bytes(path: str | Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a file, unpacked; fewer if they cannot be had."""
    try:
        if not Path(path).is_file():  # a pipe would wait for somebody who writes
            return b""
        with Path(path).open("rb") as file:
            head = file.read(size)
            kind = packing(head)
            if kind is None:
                return head
            file.seek(0)
            return next(_unpacked(file, kind, size), b"")[:size]
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""


def open_plain(path: Path) -> tuple[OpenFile, BinaryIO | None]:
    """Open a file; if it is packed, open what is in it, in a file that nobody else sees.

    That file is in ``$TMPDIR`` or /var/tmp, where crash unpacks as well. It is gone when what is
    returned behind it is closed; that is None for a file that is not packed.

    :raises P2mError: the file cannot be opened or unpacked, or is too large.
    """
    file = OpenFile(path)
    kind = packing(file.read_at(0, 8))
    if kind is None:
        return file, None
    made = _unpack(str(path), kind, file.size, path.stat().st_mtime_ns)
    return OpenFile(f"/proc/self/fd/{made.fileno()}"), made


@lru_cache(maxsize=8)  # several dumps of one kernel
def _unpack(path: str, kind: str, size: int, _changed: int) -> BinaryIO:
    if kind == "zstd":
        raise P2mError(f"{path}: is packed by zstd, which crash cannot unpack: use unzstd first")
    limit = min(LARGEST, MOST_TIMES * size + SPARE)
    try:
        made = tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp"))  # noqa: SIM115
        with Path(path).open("rb") as file:
            for data in _unpacked(file, kind, BLOCK):
                if not made.tell() and not data.startswith(ELF):
                    raise P2mError(f"{path}: is packed by {kind}, and holds no vmlinux")
                if made.tell() + len(data) > limit:
                    raise P2mError(
                        f"{path}: is larger than {limit >> 20:,} MiB when it is unpacked, so it is"
                        " no vmlinux"
                    )
                if data.count(0) == len(data) >= PAGE:
                    made.seek(len(data), os.SEEK_CUR)
                else:
                    made.write(data)
        made.truncate()
        made.flush()
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise P2mError(f"{path}: is packed by {kind}, and cannot be unpacked ({why})") from None
    return made


def _unpacked(file: BinaryIO, kind: str, size: int) -> Iterator[bytes]:
    """Yield what is in a packed file, at most ``size`` bytes at a time."""
    if kind == "xz":
        yield from _unpacked_xz(file, size)
        return
    stream = gzip.GzipFile(fileobj=file) if kind == "gzip" else bz2.BZ2File(file)
    while data := stream.read(size):
        yield data


def _unpacked_xz(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield what is in an .xz file: lzma.LZMAFile has no limit of memory.

    It may have several streams, as pxz makes them, with zeros between.
    """
    packed = file.read(DEFAULT_BUFFER_SIZE)
    while packed:
        tool = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
        while not tool.eof:
            if tool.needs_input and not packed:
                packed = file.read(DEFAULT_BUFFER_SIZE)
                if not packed:
                    raise EOFError("the file is cut off")
            data = tool.decompress(packed, size)
            packed = b""
            if data:
                yield data
        packed = tool.unused_data.lstrip(b"\0")
        while not packed and (more := file.read(DEFAULT_BUFFER_SIZE)):
            packed = more.lstrip(b"\0")
