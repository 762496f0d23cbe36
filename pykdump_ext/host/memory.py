# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of the dump: one read, many reads, a list followed.

A read costs mostly what crash's own code for it costs.  For many of them ask once:
:func:`readmem_many` and :func:`read_list` stay in C from one read to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, overload

from .guarded import c_name, check, error, failure, ffi, lib

__all__ = [
    "KVADDR", "LARGEST_READ", "PAGESIZE", "PHYSADDR", "UVADDR", "XENMACHADDR", "mem2long",
    "readInt", "readPtr", "read_list", "read_machine", "readmem", "readmem_many",
    "readmem_task", "set_readmem_task",
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

_ALL_BITS = (1 << 64) - 1
_BYTES = ffi.typeof("char[]")
_WORDS = ffi.typeof("uint64_t[]")
_new = ffi.new_allocator(should_clear_after_alloc=False)
_SMALL = 4096
_spare: list[Any] = []
"""Buffers of _SMALL bytes; a read takes one out, because a signal handler may read meanwhile."""
_AT_ONCE = 1024
"""The most addresses that C gets in one call; Python's signal handlers wait until it returns."""
_BUFFER = 1 << 20
"""The most bytes that one call of many reads brings, if one of them is not larger."""


@dataclass
class _Readmem:
    memtype: int = KVADDR
    task: int = 0


_readmem = _Readmem()


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
            buffer = _new(_BYTES, _SMALL)
    else:
        _ensure_size(size, what.decode())
        buffer = _new(_BYTES, size)
    address = addr & _ALL_BITS
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
    kind = _readmem.memtype if mtype is None else mtype
    return _many(addresses, size, kind, _readmem.task if kind == UVADDR else 0, or_none)


def _many(
    addresses: Iterable[int], size: int, kind: int, task: int, or_none: bool
) -> Iterator[bytes | None]:
    rest = iter(addresses)
    at_once = min(_AT_ONCE, max(1, _BUFFER // size))
    buffer = _new(_BYTES, at_once * size)
    done = ffi.new("long *")
    while asked := [addr & _ALL_BITS for addr in islice(rest, at_once)]:
        words, start = ffi.new(_WORDS, asked), 0
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


def read_list(
    head: int, offset: int = 0, mtype: int | None = None, *, end: int | None = None
) -> Iterator[int]:
    """Yield the address of each structure on a list of the kernel, in the list's order::

        >>> tasks = crash.offsetof("task_struct", "tasks")
        >>> for task in crash.read_list(init_task + tasks, tasks): ...

    The list is followed by the first pointer of each ``struct list_head`` until it comes back to
    ``head``, which is not yielded.  It is read ahead, by up to 1,024 entries.

    :param head: the address of the head, a ``struct list_head``.
    :param offset: the offset of the ``struct list_head`` in each structure, in bytes.
    :param mtype: the kind of the addresses, as for :func:`readmem`.
    :param end: the pointer that ends the list; without it, ``head``.  Lists that begin with a
        ``struct hlist_head`` end with 0.
    :raises error: an entry cannot be read, or its pointer is 0; or the list goes in a circle and
        never ends, which is found after three times the entries that it has, at the latest.
    :raises NullPointer: ``head`` is the virtual address 0.
    """
    kind = _readmem.memtype if mtype is None else mtype
    start = head & _ALL_BITS
    last = start if end is None else end & _ALL_BITS
    return _list(start, offset, last, kind, _readmem.task if kind == UVADDR else 0)


def _list(head: int, offset: int, end: int, kind: int, task: int) -> Iterator[int]:
    walk = ffi.new("struct host_list *", {"at": head, "end": end, "mark": head, "to_mark": 1})
    entries = _new(_WORDS, _AT_ONCE)
    done = ffi.new("long *")
    while not walk.ended:
        result = lib.host_read_list(walk, kind, task, entries, _AT_ONCE, b"list", done)
        problem = _problem_of_list(head, walk, result)
        if isinstance(problem, KeyboardInterrupt):
            raise problem
        for entry in ffi.unpack(entries, done[0]):
            yield entry - offset & _ALL_BITS
        if problem is not None:
            raise problem


def _problem_of_list(head: int, walk: Any, result: int) -> BaseException | None:
    """Return the exception for what ended a walk before the list's end, or None."""
    if walk.circles:
        return error(
            f"the list at {head:x} never ends: after {walk.at:x} the entry {walk.mark:x} comes"
            " again, so the list is damaged or this is no head of a list"
        )
    if result == lib.HOST_NULL and head:
        return error(
            f"the list at {head:x} breaks off: the pointer at {walk.at:x} is 0; for a list that"
            " ends so, give end=0"
        )
    return failure(result, f'read error: address: {walk.at:x}  type: "list"')


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
    """Return the integer of ``size`` bytes at ``addr``; raise what :func:`readmem` raises."""
    return int.from_bytes(readmem(addr, size), "little", signed=bool(signed))


def mem2long(source: bytes, signed: bool = False, array: int = 0) -> int | list[int]:
    """Return bytes as an integer, or as a list of ``array`` integers of one size.

    :raises error: the bytes cannot be divided into so many integers.
    """
    if array <= 1:
        return int.from_bytes(source, "little", signed=bool(signed))
    if not source or len(source) % array:
        raise error(f"{len(source)} bytes cannot be divided into {array} integers of one size")
    size = len(source) // array
    return [
        int.from_bytes(source[i : i + size], "little", signed=bool(signed))
        for i in range(0, len(source), size)
    ]


def set_readmem_task(task: int) -> None:
    """Make :func:`readmem` read virtual addresses of a task, or of the kernel again.

    The session's own task stays as it is, and ``UVADDR`` means its memory again after a 0.

    :param task: the address of its ``struct task_struct``; 0 for the kernel.
    :raises error: crash has no such task.
    """
    if task:
        check(lib.host_task(task & _ALL_BITS), f"crash has no task at {task & _ALL_BITS:x}")
    _readmem.task = task & _ALL_BITS
    _readmem.memtype = UVADDR if task else KVADDR


def readmem_task() -> int:
    """Return the task that :func:`set_readmem_task` has set, or 0."""
    return _readmem.task
