# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking of a kdump-compressed dump's pages: zlib, LZO, snappy, zstd.

zlib is in Python's standard library. The others are the shared libraries that crash
itself uses; each is opened when a page first needs it.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

from ..errors import P2mError

__all__ = ["LIBRARIES", "LZO", "SNAPPY", "ZLIB", "ZSTD", "library", "unpack"]

# Flags of a page descriptor (crash's diskdump.h); a page with none of them is not packed
ZLIB = 0x1
LZO = 0x2
SNAPPY = 0x4
ZSTD = 0x20

FUNCTIONS = """
int lzo1x_decompress_safe(const char *, size_t, char *, size_t *, void *);
int snappy_uncompress(const char *, size_t, char *, size_t *);
size_t ZSTD_decompress(char *, size_t, const char *, size_t);
"""
LIBRARIES = {
    LZO: ("liblzo2.so.2", "liblzo2-2 (Debian, Ubuntu) or lzo (Oracle Linux, Fedora, RHEL)"),
    SNAPPY: ("libsnappy.so.1", "libsnappy1v5 (Debian, Ubuntu) or snappy (Oracle Linux, Fedora)"),
    ZSTD: ("libzstd.so.1", "libzstd1 (Debian, Ubuntu) or libzstd (Oracle Linux, Fedora, RHEL)"),
}


@cache
def _ffi() -> Any:
    """Return what calls the functions of these libraries."""
    from cffi import FFI  # noqa: PLC0415  (its parser of C takes 0.1 s)

    made = FFI()
    made.cdef(FUNCTIONS)
    return made


@cache
def library(method: int) -> Any:
    """Return the shared library for ``LZO``, ``SNAPPY`` or ``ZSTD``.

    :raises P2mError: the library is not installed.
    """
    name, package = LIBRARIES[method]
    try:
        return _ffi().dlopen(name)
    except OSError:
        raise P2mError(f"the dump's pages need {name} to be unpacked: install {package}") from None


def unpack(data: bytes, flags: int, size: int) -> bytes | None:
    """Return the ``size`` bytes that are packed in ``data``, or None if it is damaged.

    :param flags: the flags of the page's descriptor.
    :raises P2mError: the library that the page needs is not installed.
    """
    if flags & ZLIB:
        try:
            found = zlib.decompressobj().decompress(data, size + 1)
        except zlib.error:
            return None
        return found if len(found) == size else None
    if not flags & (LZO | SNAPPY | ZSTD):
        return data if len(data) == size else None
    ffi = _ffi()
    page, length = ffi.new("char[]", size), ffi.new("size_t *", size)
    if flags & LZO:
        lzo = library(LZO)
        failed = lzo.lzo1x_decompress_safe(data, len(data), page, length, ffi.NULL)
    elif flags & SNAPPY:
        failed = library(SNAPPY).snappy_uncompress(data, len(data), page, length)
    else:
        failed = library(ZSTD).ZSTD_decompress(page, size, data, len(data)) != size
    return None if failed or length[0] != size else bytes(ffi.buffer(page, size))
