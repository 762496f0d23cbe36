# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of the dump: one read, many reads, addresses translated.

A read costs mostly what crash's own code for it costs.  For many of them ask once:
:func:`readmem_many` stays in C from one read to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, overload

from .guarded import NullPointer, c_name, check, error, failure, ffi, lib
from .integers import ALL_BITS, ensure_integer

__all__ = [
    "AT_ONCE", "KVADDR", "LARGEST_READ", "PAGESIZE", "PHYSADDR", "UVADDR", "WORDS", "XENMACHADDR",
    "kind_and_task", "kvtop", "new", "readInt", "readPtr", "read_machine", "readmem",
    "readmem_many", "readmem_task", "set_readmem_task", "uvtop",
]  # fmt: skip

KVADDR = 0x1
"""A kernel virtual address."""
UVADDR = 0x2
"""A virtual address of the task set by :func:`set_readmem_task`, or of the current task."""
PHYSADDR = 0x4
"""A physical address; in a Xen dom0, a pseudo-physical address."""
XENMACHADDR = 0x8
"""A machine address; crash reads it by way of a pseudo-physical address where it has one."""
PAGESIZE = 4096
LARGEST_READ = 1 << 30
"""The most bytes that one call of :func:`readmem` reads: it has them in memory twice."""

_BYTES = ffi.typeof("char[]")
WORDS = ffi.typeof("uint64_t[]")
new = ffi.new_allocator(should_clear_after_alloc=False)
_SMALL = 4096
_spare: list[Any] = []
"""Buffers of _SMALL bytes; a read takes one out, because a signal handler may read meanwhile."""
AT_ONCE = 1024
"""The most addresses that C gets in one call; Python's signal handlers wait until it returns."""
_BUFFER = 1 << 20
"""The most bytes that one call of many reads brings, if one of them is not larger."""


@dataclass
class _Readmem:
    memtype: int = KVADDR
    task: int = 0


_readmem = _Readmem()


def kind_and_task(mtype: int | None) -> tuple[int, int]:
    """Return the kind of address that ``mtype`` stands for, and the task whose memory it is in."""
    kind = _readmem.memtype if mtype is None else mtype
    return kind, _readmem.task if kind == UVADDR else 0


def _ensure_size(size: int, what: str) -> None:
    if size <= 0:
        raise error(f'invalid size request: {size}  type: "{what}"')
    if size > LARGEST_READ:
        raise error(
            f"a read of {size:,} bytes at once is too large: read {LARGEST_READ:,} at most, and"
            " the rest by further calls"
        )


def _read(addr: int, size: int, mtype: int, machine: bool, what: bytes) -> bytes:
    small = 0 < size <= _SMALL
    if small:
        try:
            buffer = _spare.pop()
        except IndexError:
            buffer = new(_BYTES, _SMALL)
    else:
        _ensure_size(size, what.decode())
        buffer = new(_BYTES, size)
    address = addr & ALL_BITS
    task = _readmem.task if mtype == UVADDR else 0
    result = lib.host_readmem(address, mtype, task, machine, buffer, size, what)
    if result:
        check(result, f'read error: address: {address:x}  type: "{what.decode()}"')
    data: bytes = ffi.unpack(buffer, size)
    if small:
        _spare.append(buffer)
    return data


def readmem(addr: int, size: int, mtype: int | None = None) -> bytes:
    """Return ``size`` bytes from ``addr``.

    :param mtype: the kind of address: ``KVADDR``, ``UVADDR``, ``PHYSADDR`` or
        ``XENMACHADDR``.  Without it: ``UVADDR`` once a task is set, else ``KVADDR``.
    :raises NullPointer: ``addr`` is the virtual address 0.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: the memory cannot be read, and crash's message has the address and its kind;
        or ``size`` is above ``LARGEST_READ``.
    """
    return _read(addr, size, _readmem.memtype if mtype is None else mtype, False, b"Python")


@overload
def readmem_many(
    addresses: Iterable[int], size: int, mtype: int | None = None, *, or_none: Literal[False] = ...
) -> Iterator[bytes]: ...
@overload
def readmem_many(
    addresses: Iterable[int], size: int, mtype: int | None = None, *, or_none: bool
) -> Iterator[bytes | None]: ...
def readmem_many(
    addresses: Iterable[int], size: int, mtype: int | None = None, *, or_none: bool = False
) -> Iterator[bytes | None]:
    """Yield ``size`` bytes from each address, in their order, as :func:`readmem` returns them::

        >>> pids = crash.readmem_many((task + pid for task in tasks), 4)

    It reads ahead: up to 1,024 addresses are taken before the first bytes come.  The memory that
    it needs does not grow with the number of addresses.

    :param mtype: the kind of all addresses; without it as for :func:`readmem`, at this moment.
    :param or_none: yield None for an address that cannot be read.  Otherwise the first of them
        raises what :func:`readmem` raises, after the bytes of those before it.
    """
    _ensure_size(size, "Python")
    return _many(addresses, size, *kind_and_task(mtype), or_none)


def _many(
    addresses: Iterable[int], size: int, kind: int, task: int, or_none: bool
) -> Iterator[bytes | None]:
    rest = iter(addresses)
    at_once = min(AT_ONCE, max(1, _BUFFER // size))
    buffer = new(_BYTES, at_once * size)
    done = ffi.new("long *")
    while asked := [addr & ALL_BITS for addr in islice(rest, at_once)]:
        words, start = ffi.new(WORDS, asked), 0
        while start < len(asked):
            result = lib.host_read_many(
                words + start, len(asked) - start, kind, task, buffer, size, b"Python", done
            )
            count = done[0]
            # What is yielded may call crash, so the message is taken first
            address = asked[min(start + count, len(asked) - 1)]
            problem = failure(result, f'read error: address: {address:x}  type: "Python"')
            if isinstance(problem, KeyboardInterrupt):
                raise problem
            read: bytes = ffi.unpack(buffer, count * size)
            for place in range(0, count * size, size):
                yield read[place : place + size]
            start += count
            if problem is not None:
                if not or_none or result == lib.HOST_WRONG_THREAD:
                    raise problem
                yield None
                start += 1


def read_machine(maddr: int, size: int, what: str = "Python") -> bytes:
    """Return ``size`` bytes from machine address ``maddr``, without any translation.

    In a session that is not on a Xen host's dump it is a physical address.

    :param what: what is being read, for the error message.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: the memory is not in the dump.
    """
    return _read(maddr, size, PHYSADDR, True, c_name(what))


def readPtr(addr: int, mtype: int | None = None) -> int:
    """Return the pointer of 8 bytes at ``addr``; raise what :func:`readmem` raises."""
    return int.from_bytes(readmem(addr, 8, mtype), "little")


def readInt(addr: int, size: int, signed: bool = False) -> int:
    """Return the integer of 1, 2, 4 or 8 bytes at ``addr``.

    :raises error: as :func:`readmem`, and for the address 0, too; or ``size`` is another one.
    """
    ensure_integer(size)
    try:
        data = readmem(addr, size)
    except NullPointer as problem:
        raise error(str(problem)) from None
    return int.from_bytes(data, "little", signed=bool(signed))


def set_readmem_task(task: int) -> None:
    """Make :func:`readmem` read virtual addresses of a task, or of the kernel again.

    The session's own task stays as it is, and ``UVADDR`` means its memory again after a 0.

    :param task: the address of its ``struct task_struct``; 0 for the kernel.
    :raises error: crash has no such task.
    """
    if task:
        check(lib.host_task(task & ALL_BITS), f"crash has no task at {task & ALL_BITS:x}")
    _readmem.task = task & ALL_BITS
    _readmem.memtype = UVADDR if task else KVADDR


def readmem_task() -> int:
    """Return the task that :func:`set_readmem_task` has set, or 0."""
    return _readmem.task


def _translate(addr: int, user: bool, task: int) -> int:
    physical = ffi.new("uint64_t *")
    result = lib.host_translate(addr & ALL_BITS, user, task & ALL_BITS, physical)
    check(result, f"virtual address {addr & ALL_BITS:x} is not mapped")
    return int(physical[0])


def uvtop(task: int, addr: int) -> int:
    """Return the physical address behind virtual address ``addr`` of a task.

    :param task: the address of its ``struct task_struct``.
    :raises error: the address is not mapped, or crash has no such task.
    """
    return _translate(addr, True, task)


def kvtop(addr: int) -> int:
    """Return the physical address behind virtual address ``addr`` of the kernel.

    :raises error: the address is not mapped.
    """
    return _translate(addr, False, 0)
