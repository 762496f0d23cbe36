# SPDX-License-Identifier: GPL-3.0-or-later
"""Integers in bytes and out of them, without a question to crash.

A program may give any integer for an address or a value, as C takes it: its lower bits count.
"""

from __future__ import annotations

from .guarded import error

__all__ = [
    "ALL_BITS", "FD_ISSET", "PAGEOFFSET", "cpu_to_le32", "ensure_integer", "le16_to_cpu",
    "le32_to_cpu", "mem2long", "sLong",
]  # fmt: skip

ALL_BITS = (1 << 64) - 1


def ensure_integer(size: int) -> None:
    """Raise :class:`error` unless an integer of C may have ``size`` bytes."""
    if size not in (1, 2, 4, 8):
        raise error(f"bad size: an integer has 1, 2, 4 or 8 bytes, and not {size:,}")


def mem2long(bytestr: bytes, signed: bool = False, array: int = 0) -> int | list[int]:
    """Return bytes as an integer, or as a list of ``array`` integers of one size.

    :raises error: the bytes are not as many integers of 1, 2, 4 or 8 bytes.
    """
    if array <= 1:
        ensure_integer(len(bytestr))
        return int.from_bytes(bytestr, "little", signed=bool(signed))
    size, rest = divmod(len(bytestr), array)
    if rest:
        raise error(
            f"bad size: {len(bytestr):,} bytes cannot be divided into {array:,} integers of one"
            " size"
        )
    ensure_integer(size)
    return [
        int.from_bytes(bytestr[i : i + size], "little", signed=bool(signed))
        for i in range(0, len(bytestr), size)
    ]


def sLong(value: int) -> int:
    """Return the lower 64 bits of ``value`` as a signed integer."""
    value &= ALL_BITS
    return value - (1 << 64) if value >> 63 else value


def le32_to_cpu(value: int) -> int:
    """Return the lower 32 bits of ``value``: x86 is little-endian."""
    return value & 0xFFFFFFFF


cpu_to_le32 = le32_to_cpu


def le16_to_cpu(value: int) -> int:
    """Return the lower 16 bits of ``value``: x86 is little-endian."""
    return value & 0xFFFF


def PAGEOFFSET(addr: int) -> int:
    """Return the offset of ``addr`` in its page, in bytes."""
    return addr & 0xFFF


def FD_ISSET(fd: int, fds: bytes) -> int:
    """Return 1 when bit number ``fd`` of an ``fd_set`` is set, else 0, also beyond its bytes."""
    return fds[fd >> 3] >> (fd & 7) & 1 if 0 <= fd < 8 * len(fds) else 0
